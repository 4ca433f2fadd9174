package workflows_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// migrating is a story of a job that migrates the database app, whose tables are the
// role migrator's. The server lets in over TLS alone, and sslmode is left out, as on the page.
func migrating(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	s := setting{beside: func(t *testing.T, w *world) (string, map[string]string, map[string]string) {
		w.db = startDatabase(t, w.address)
		w.db.overTLS(t)
		w.db.as(t, "app", "ALTER TABLE orders OWNER TO migrator")
		task := read(t, filepath.Join("testdata", "migrate-records.yaml"))
		write(t, filepath.Join(w.runner.Workspace, authority), []byte(w.db.authority))
		files := map[string]string{"postgres.password": w.db.password, "postgres.crt": w.db.authority}
		return w.db.configured("migrator"), map[string]string{"migrate-records.yaml": task}, files
	}}
	onTheMachine(t, s, story)
}

// authority is where the repository has the certificate of who signed the database's.
const authority = "certificates/database.crt"

// migration is a run of migrate.yml for a migration that the repository has.
func (w *world) migration(t *testing.T, name, statements string) runnersim.Job {
	t.Helper()
	write(t, filepath.Join(w.runner.Workspace, "migrations", name+".sql"), []byte(statements))
	spec := githubsim.JobSpec{
		Repository: "acme/widget", Workflow: ".github/workflows/migrate.yml", Event: "workflow_dispatch", Environment: "production", IDToken: true,
	}
	job := w.job(spec, read(t, "migrate.yml"))
	job.Inputs = map[string]string{"migration": name}
	job.Vars["PGSSLROOTCERT"] = authority
	return job
}

const moves = `CREATE TABLE orders_done (LIKE orders INCLUDING ALL);
WITH moved AS (DELETE FROM orders WHERE done RETURNING *) INSERT INTO orders_done SELECT * FROM moved;
`

// What a migration makes is its role's. It can also make things as its own login, and
// these are the owner's when that is gone.
const leaves = `SET ROLE NONE;
CREATE TABLE left_behind ();
`

// What an eavesdropper in the same job sees: while psql runs, and after.
const (
	eavesdrops = `\! echo "it holds $PGPASSWORD and $DATABASE_URL"
\! printf %s "$PGPASSWORD" >"$CANARY"
\! cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-meanwhile" 2>/dev/null
\! cat /proc/$(cut -d' ' -f4 </proc/$PPID/stat)/environ >"$RUNNER_TEMP/environ-of-stepkey"
`
	looksAround = `
      - name: Look around
        run: |
          ls -lR "$RUNNER_TEMP"
          env
          cat /proc/[0-9]*/environ >"$RUNNER_TEMP/environ-after" 2>/dev/null || true
          cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-after" 2>/dev/null || true
`
)

func TestAMigrationMovesRecordsAndItsLoginIsGone(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		canary := filepath.Join(t.TempDir(), "canary")
		w.runner.Host["CANARY"] = canary
		job := w.migration(t, "move-done", moves+eavesdrops+leaves)
		job.Workflow = append(job.Workflow, looksAround...)
		job.Env["RUNNER_DEBUG"] = "1" // every debug line too
		job.Watch = func(m runnersim.Moment) {
			if m.Name == "Migrate" && m.Done {
				w.db.wantNobody(t)
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.db.want(t, "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM orders WHERE done), (SELECT count(*) FROM orders_done WHERE done)", "500|0|500")
		w.db.want(t, "SELECT string_agg(tableowner, ' ') FROM pg_tables WHERE tablename IN ('orders_done', 'left_behind')", "migrator migrator")
		w.db.wantNobody(t)
		log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
		if granted := log[1].Granted; !strings.Contains(granted, "migrator") || !strings.Contains(granted, "app") {
			t.Errorf("the audit log says that %q was granted", granted)
		}
		w.wantSeenByPsqlAlone(t, r, read(t, canary))
	})
}

// wantSeenByPsqlAlone: the password was in psql's environment, and is nowhere in what the
// job leaves: its log, arguments, environments of later steps, state, outputs and files.
func (w *world) wantSeenByPsqlAlone(t *testing.T, r *runnersim.Result, password string) {
	t.Helper()
	wantOnlyIn(t, r.Left, "the password", password)
	for _, s := range r.Steps {
		if strings.Contains(fmt.Sprintf("%+v", s), password) {
			t.Errorf("%s shows it:\n%+v", s.Name, s)
		}
	}
	if log := step(t, r, "Migrate", runnersim.Main).Log; !strings.Contains(log, "it holds *** and ") {
		t.Errorf("what psql printed is not masked:\n%s", log)
	}
	// What was searched is what there was: it shows what is no secret.
	for file, what := range map[string]string{
		"environ-of-stepkey": "STEPKEY_EXCHANGE=" + w.exchange.url, "environ-after": "STEPKEY_EXCHANGE=" + w.exchange.url,
		"argv-meanwhile": "exec\x00--task\x00migrate-records\x00--\x00psql", "argv-after": "bash",
	} {
		if seen := read(t, filepath.Join(r.Left, "work", "_temp", file)); !strings.Contains(seen, what) {
			t.Errorf("%s does not show %q", file, what)
		}
	}
}

// PostgreSQL refuses what the task does not grant, and then nothing has happened.
func TestAMigrationDoesNoMoreThanItsTask(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		for name, step := range map[string]struct{ does, told string }{
			"another-table":    {"SELECT amount FROM salaries;", "permission denied for table salaries"},
			"a-login":          {"CREATE ROLE backdoor LOGIN;", "permission denied to create role"},
			"another-database": {`\connect ledger`, `permission denied for database "ledger"`},
			"the-exchange":     {"SET ROLE stepkey;", `permission denied to set role "stepkey"`},
			"the-server":       {`COPY orders TO PROGRAM 'cat';`, "pg_execute_server_program"},
		} {
			r := w.run(t, w.migration(t, name, moves+step.does+"\n"))
			if r.Conclusion != runnersim.Failure || !strings.Contains(r.Log, step.told) {
				t.Errorf("%s: the job is %s, and the server did not say %q", name, r.Conclusion, step.told)
				t.Log(r.Log)
			}
			w.wantUnmoved(t)
		}
	})
}

// Whoever is refused is told why, and no login was made.
func TestAMigrationIsOneOfTheRepositorysByItsName(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		for _, name := range []string{"../../elsewhere", "v1.2", "001_add.sql", "a b", "a\n::warning::b", ""} {
			job := w.migration(t, "is-there", moves)
			job.Inputs["migration"] = name
			r := w.run(t, job)
			if r.Conclusion != runnersim.Failure {
				t.Errorf("%q: the job is %s", name, r.Conclusion)
			}
			wantError(t, step(t, r, "Migrate", runnersim.Main), []string{"The input migration is refused", "want letters, digits, _ and -"})
		}
		w.wantUnmoved(t)
		w.wantAudit(t)
	})
}

// The server's certificate is held against an authority that it is not of.
func TestAMigrationGoesToNoOtherServer(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		stranger, _ := certified(t, w.address)
		write(t, filepath.Join(w.runner.Workspace, authority), stranger)
		r := w.run(t, w.migration(t, "move-done", moves))
		if r.Conclusion != runnersim.Failure || !strings.Contains(r.Log, "certificate verify failed") {
			t.Errorf("the job is %s, and psql did not say that the certificate is another's", r.Conclusion)
		}
		w.wantUnmoved(t)
		w.wantAudit(t, "pending", "active", "revoking", "revoked")
	})
}

func (w *world) wantUnmoved(t *testing.T) {
	t.Helper()
	w.db.want(t, "SELECT count(*), (SELECT count(*) FROM orders WHERE done), to_regclass('orders_done') IS NULL FROM orders", "1000|500|t")
	w.db.wantNobody(t)
}

// sleeping are the sessions of leases in the middle of a migration that moves and then sleeps.
const (
	sleeps   = moves + "SELECT pg_sleep(3600);\n"
	sleeping = `SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'stepkey\_%' AND wait_event = 'PgSleep'`
)

// middle is closed once the migration sleeps, or is not there in time.
func (w *world) middle(t *testing.T) <-chan struct{} {
	t.Helper()
	there := make(chan struct{})
	go func() {
		defer close(there)
		if err := w.db.becomes(t.Context(), sleeping, "1"); err != nil {
			t.Errorf("the migration never came to its middle: %v", err)
		}
	}()
	return there
}

func TestAMigrationThatIsCancelledHasNotHappened(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		job := w.migration(t, "sleep", sleeps)
		job.Cancel = w.middle(t)
		if r := w.run(t, job); r.Conclusion != runnersim.Cancelled {
			t.Errorf("the job is %s", r.Conclusion)
		}
		w.wantUnmoved(t)
		w.wantAudit(t, "pending", "active", "revoking", "revoked")
	})
}

// A server does not notice that a client's machine is gone while a statement runs: the
// transaction goes on and keeps its locks. The lease's end ends it. Here an operator's is the
// end, since a slow machine may not get as far before a deadline that others can wait for.
func TestAMigrationWhoseRunnerDiesIsRolledBackWithItsLease(t *testing.T) {
	t.Parallel()
	migrating(t, func(t *testing.T, w *world) {
		job := w.migration(t, "sleep", sleeps)
		job.Die = w.middle(t)
		if r := w.run(t, job); r.Conclusion != runnersim.Lost {
			t.Errorf("the job is %s", r.Conclusion)
		}
		w.db.want(t, sleeping, "1")
		w.exchange.revoke(t, "migrate-records")
		w.wantUnmoved(t)
		log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
		if reason := log[2].Reason; !strings.Contains(reason, "an operator") {
			t.Errorf("it was ended because %q", reason)
		}
	})
}

// revoke is what an operator ends a task's leases with, beside the exchange that runs.
func (x *exchange) revoke(t *testing.T, task string) {
	t.Helper()
	tell := append(slices.Clone(x.tell), "--task", task)
	tell[slices.Index(tell, "audit")] = "revoke"
	command(t, tell[0], tell[1:]...)
}
