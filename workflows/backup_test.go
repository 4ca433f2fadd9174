package workflows_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// backingUp is a story of a job that dumps the database app into a bucket.
func backingUp(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	s := setting{beside: func(t *testing.T, w *world) (string, map[string]string, map[string]string) {
		w.db = startDatabase(t, w.address)
		w.db.as(t, "app", "CREATE ROLE reader NOLOGIN; GRANT pg_read_all_data TO reader; GRANT reader TO stepkey WITH ADMIN OPTION; GRANT CONNECT ON DATABASE app TO reader")
		var err error
		w.s3, err = realserver.StartMinIO(t.Context(), t.TempDir(), w.address)
		needs.Started(t, err)
		t.Cleanup(func() { w.s3.Close() })
		if err := w.s3.MakeBucket(t.Context(), "backups"); err != nil {
			t.Fatal(err)
		}
		if err := w.s3.Put(t.Context(), "backups", "app/1/yesterday.dump", "a dump"); err != nil {
			t.Fatal(err)
		}
		tasks := map[string]string{}
		for _, name := range []string{"read-records.yaml", "store-backup.yaml"} {
			tasks[name] = read(t, filepath.Join("testdata", name))
		}
		bucket := fmt.Sprintf("  s3: {kind: minio, endpoint: %q, access_key: %s, secret_key_file: s3.secret, insecure_http: true, buckets: [backups]}\n", w.s3.URL, w.s3.User)
		return w.db.configured("reader") + bucket, tasks, map[string]string{"postgres.password": w.db.password, "s3.secret": w.s3.Password}
	}}
	onTheMachine(t, s, story)
}

// backup is a run of backup.yml at its time of the day.
func (w *world) backup(workflow string) runnersim.Job {
	job := w.job(githubsim.JobSpec{
		Repository: "acme/widget", Workflow: ".github/workflows/backup.yml", Event: "schedule", Environment: "backup", IDToken: true,
	}, workflow)
	job.Vars["BACKUP_TO"] = w.s3.URL + "/backups/app"
	return job
}

// Every row of app, whatever its table.
const rows = `SELECT md5(string_agg(t::text, '/' ORDER BY t::text)) FROM (SELECT o::text FROM orders o UNION ALL SELECT c::text FROM customers c UNION ALL SELECT s::text FROM salaries s) t`

func TestABackupIsInItsBucketAndBothItsKeysAreGone(t *testing.T) {
	t.Parallel()
	backingUp(t, func(t *testing.T, w *world) {
		pockets := t.TempDir()
		w.runner.Host["POCKETS"] = pockets
		workflow := replace(t, read(t, "backup.yml"), "            pg_dump --format", "            "+picksPockets+" pg_dump --format")
		workflow = replace(t, workflow, "          s3() {\n", listens+"          s3() {\n")
		workflow = replace(t, workflow, "          STORE\n", oversteps+"          STORE\n")
		job := w.backup(workflow)
		job.Env["RUNNER_DEBUG"] = "1"
		job.Watch = func(m runnersim.Moment) {
			if m.Name == "Dump" && m.Done {
				w.db.wantNobody(t)
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.wantRestored(t)
		for _, refused := range []string{"reads 403", "writes elsewhere 403", "overwrites 403", "deletes 403", "lists 403"} {
			if log := step(t, r, "Store", runnersim.Main).Log; !strings.Contains(log, refused) {
				t.Errorf("it is not so that what it %s:\n%s", refused, log)
			}
		}
		w.wantAudit(t, "pending", "active", "revoking", "revoked", "pending", "active", "revoking", "revoked")
		w.db.wantNobody(t)
		w.wantPocketsWorthless(t, r, pockets, job.Env["GITHUB_RUN_ID"])
	})
}

// This is what somebody does who is in the commands: takes the login away, listens to
// arguments, takes the keys away and tries what they are not for.
const (
	picksPockets = `bash -c 'printf %s "$DATABASE_URL" >"$POCKETS/url"; printf %s "$PGPASSWORD" >"$POCKETS/password"; exec "$@"' --`
	listens      = `          curl() { printf '%s\n' "$@" >>"$RUNNER_TEMP/argv-of-curl"; command curl "$@"; }
`
	oversteps = `          printf %s "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" >"$POCKETS/keys"
          printf %s "$AWS_SECRET_ACCESS_KEY" >"$POCKETS/secret"
          printf %s "${AWS_SESSION_TOKEN-}" >"$POCKETS/session"
          told() { what=$1; shift; s3 --output /dev/null --write-out "$what %{http_code}\n" "$@" || true; }
          told reads "$object"
          told deletes --request DELETE "$object"
          told "writes elsewhere" --upload-file "$RUNNER_TEMP/records.dump" "${BACKUP_TO%/app}/elsewhere/$GITHUB_RUN_ID/a.dump"
          told overwrites --upload-file "$RUNNER_TEMP/records.dump" "$BACKUP_TO/1/yesterday.dump"
          told lists "${BACKUP_TO%/app}?list-type=2"
`
)

// wantRestored: beside what was there is one object more, and a second database made of it
// has the first one's rows.
func (w *world) wantRestored(t *testing.T) {
	t.Helper()
	objects, err := w.s3.Objects(t.Context(), "backups")
	if err != nil || len(objects) != 2 || objects[0] != "app/1/yesterday.dump" {
		t.Fatalf("the bucket holds %q (%v), want a dump beside yesterday's", objects, err)
	}
	dump, err := w.s3.Get(t.Context(), "backups", objects[1])
	if err != nil {
		t.Fatal(err)
	}
	w.db.do(t, "CREATE DATABASE restored")
	restore := exec.CommandContext(t.Context(), "pg_restore", "--exit-on-error", "--no-owner", "--dbname", w.db.DSN("restored"))
	restore.Stdin = strings.NewReader(dump)
	if said, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("restoring %s, of %d bytes: %v\n%s", objects[1], len(dump), err, said)
	}
	if was, is := w.db.as(t, "app", rows), w.db.as(t, "restored", rows); was != is || was == "" {
		t.Errorf("the rows are %s, and restored %s", was, is)
	}
}

// wantPocketsWorthless: what was taken away is refused by both servers, and is nowhere in
// what the job left.
func (w *world) wantPocketsWorthless(t *testing.T, r *runnersim.Result, pockets, run string) {
	t.Helper()
	url := read(t, filepath.Join(pockets, "url"))
	login := exec.CommandContext(t.Context(), "psql", "-X", "-c", "SELECT 1", url)
	if said, err := login.CombinedOutput(); err == nil || !strings.Contains(string(said), "password authentication failed") {
		t.Errorf("the login still does something: %s (%v)", said, err)
	}
	if said := w.put(t, run, read(t, filepath.Join(pockets, "keys")), read(t, filepath.Join(pockets, "session"))); !strings.Contains(said, "<Code>InvalidAccessKeyId</Code>") {
		t.Errorf("the keys still do something: %s", said)
	}
	for _, name := range []string{"password", "secret"} {
		wantOnlyIn(t, r.Left, "the "+name, read(t, filepath.Join(pockets, name)))
		if strings.Contains(fmt.Sprintf("%+v", r.Steps), read(t, filepath.Join(pockets, name))) {
			t.Errorf("a step shows the %s", name)
		}
	}
	if argv := read(t, filepath.Join(r.Left, "work", "_temp", "argv-of-curl")); !strings.Contains(argv, "--upload-file") {
		t.Error("the arguments that were searched are not curl's")
	}
}

// put writes an object where the run's job may, and returns what is said to that.
func (w *world) put(t *testing.T, run, keys, session string) string {
	t.Helper()
	late := filepath.Join(t.TempDir(), "late")
	write(t, late, []byte("late"))
	curl := exec.CommandContext(t.Context(), "curl", "--silent", "--config", "-", "--aws-sigv4", "aws:amz:us-east-1:s3",
		"--write-out", "%{http_code}", "--upload-file", late, w.s3.URL+"/backups/app/"+run+"/late.dump")
	curl.Stdin = strings.NewReader(fmt.Sprintf("user = %q\nheader = %q\n", keys, "x-amz-security-token: "+session))
	said, err := curl.CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, said)
	}
	return string(said)
}

func TestABackupCanOnlyRead(t *testing.T) {
	t.Parallel()
	backingUp(t, func(t *testing.T, w *world) {
		for does, told := range map[string]string{
			"DELETE FROM orders":            "permission denied for table orders",
			"CREATE TABLE public.more ()":   "permission denied for schema public",
			"SET ROLE migrator":             `permission denied to set role "migrator"`,
			"COPY orders TO PROGRAM 'true'": "pg_execute_server_program",
		} {
			workflow := read(t, "backup.yml")
			from := strings.Index(workflow, "            pg_dump --format")
			line, _, _ := strings.Cut(workflow[from:], "\n")
			r := w.run(t, w.backup(replace(t, workflow, line, fmt.Sprintf("            psql --no-psqlrc --command %q", does))))
			if r.Conclusion != runnersim.Failure || !strings.Contains(r.Log, told) {
				t.Errorf("%s: the job is %s, and the server did not say %q", does, r.Conclusion, told)
			}
			if s := step(t, r, "Store", runnersim.Main); s.Conclusion != runnersim.Skipped {
				t.Errorf("%s: what was not dumped is stored: %s", does, s.Conclusion)
			}
		}
		w.db.want(t, "SELECT count(*) FROM orders", "1000")
		w.db.wantNobody(t)
	})
}

// overstays holds both at the same time and goes on until neither is good for anything. Its
// window is the first in which the machine is fast enough to get hold of both.
const overstays = `on: push
permissions:
  id-token: write
jobs:
  backup:
    runs-on: ubuntu-latest
    environment: backup
    steps:
      - uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
      - name: Overstay
        shell: bash
        env:
          BACKUP_TO: ${{ vars.BACKUP_TO }}
        run: |
          cat >"$RUNNER_TEMP/both" <<'BOTH'
          echo "a dump" >"$RUNNER_TEMP/late"
          reads() { psql --no-psqlrc --quiet --command 'SELECT 1' >/dev/null 2>&1; }
          writes() {
            printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "${AWS_SESSION_TOKEN-}" |
              curl --config - --aws-sigv4 "aws:amz:us-east-1:s3" --silent --fail --upload-file "$RUNNER_TEMP/late" "$BACKUP_TO/$GITHUB_RUN_ID/late.dump"
          }
          reads
          writes
          echo "it holds both"
          until ! reads && ! writes; do sleep 0.2; done
          echo "it holds nothing"
          BOTH
          for window in 15s 1m 4m; do
            ! "$RUNNER_TEMP/stepkey" exec --ttl "$window" --task read-records --task store-backup -- \
              bash -euo pipefail "$RUNNER_TEMP/both" || exit 0
          done
          exit 1
`

func TestABackupThatRunsPastItsWindowLosesBoth(t *testing.T) {
	t.Parallel()
	backingUp(t, func(t *testing.T, w *world) {
		r := w.run(t, w.backup(overstays))
		if r.Conclusion != runnersim.Success || !strings.Contains(r.Log, "it holds both") || !strings.Contains(r.Log, "it holds nothing") {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		var why []string
		for _, e := range w.exchange.audit(t) {
			if e.Event == "revoking" {
				why = append(why, e.Reason)
			}
		}
		if over := []string{"its time was over", "its time was over"}; len(why) < 2 || !slices.Equal(why[len(why)-2:], over) {
			t.Errorf("the leases were ended because %q, want that the last two's time was over", why)
		}
		w.db.wantNobody(t)
	})
}
