package workflows_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// images is a registry that jobs reach, set up as docs/backends/registry.md says.
type images struct {
	dir    string // its own
	keys   string // a folder with what the page's commands make
	listen string // where it is without TLS
	host   string // and port, where jobs find it
	realm  string // where it sends them
}

// publishing is a story of a job that pushes an image. Its skopeo is the real one, after
// an eavesdropper's look at what it got.
func publishing(t *testing.T, ttl string, story func(t *testing.T, w *world)) {
	t.Helper()
	s := setting{beside: func(t *testing.T, w *world) (string, map[string]string, map[string]string) {
		needs.Programs(t, "openssl", "skopeo", "docker-registry")
		i := &images{dir: t.TempDir(), keys: t.TempDir(), listen: freePort(t, w.address)}
		w.images = i
		front, certificate := behindTLS(t, "http://"+i.listen, w.address)
		i.host = strings.TrimPrefix(front, "https://")
		write(t, filepath.Join(i.keys, "tls.pem"), certificate)
		w.runner.Host["SSL_CERT_FILE"] = filepath.Join(i.keys, "tls.pem")
		keys := exec.CommandContext(t.Context(), "sh", "-euc", page("registry.md").Block(t, "sh", "openssl genpkey"))
		keys.Dir = i.keys
		if said, err := keys.CombinedOutput(); err != nil {
			t.Fatalf("making the keys of the page: %v\n%s", err, said)
		}
		backends := fmt.Sprintf("  registry: {keys: [registry.pem], issuer: exchange.test, service: registry.test, registry: %q, repositories: [acme/]}\n", i.host)
		task := replace(t, read(t, filepath.Join("testdata", "publish-image.yaml")), "ttl: 10m", "ttl: "+ttl)
		w.spyOn(t, "skopeo", `printf 'it holds %s\n' "$(cat "$REGISTRY_AUTH_FILE")"
cp "$REGISTRY_AUTH_FILE" "$CANARY/auth.json"
stat -c %a "$REGISTRY_AUTH_FILE" >"$RUNNER_TEMP/mode"
cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-meanwhile" 2>/dev/null || true
cat /proc/$PPID/environ >"$RUNNER_TEMP/environ-of-stepkey"
`)
		return backends, map[string]string{"publish-image.yaml": task}, map[string]string{"registry.pem": read(t, filepath.Join(i.keys, "registry.pem"))}
	}}
	onTheMachine(t, s, func(t *testing.T, w *world) {
		w.images.start(t, w.exchange.url)
		story(t, w)
	})
}

// start has the registry send its clients to an exchange.
func (i *images) start(t *testing.T, exchange string) {
	t.Helper()
	i.realm = exchange + "/registry/token"
	server, err := realserver.StartRegistry(t.Context(), realserver.RegistryConfig{
		Dir: i.dir, Listen: i.listen, Realm: i.realm, Service: "registry.test", Issuer: "exchange.test",
		Trust: fmt.Sprintf("rootcertbundle: %q", filepath.Join(i.keys, "registry.crt")),
	})
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

// pushed lists what has a name in the registry, by repository:tag, with its digest. It
// looks at the registry's own files: nobody can ask without a lease.
func (i *images) pushed(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	place := regexp.MustCompile(`^(.+)/_manifests/tags/([^/]+)/current/link$`)
	top := filepath.Join(i.dir, "data", "docker", "registry", "v2", "repositories")
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(top, path)
		if at := place.FindStringSubmatch(inside); at != nil {
			found[at[1]+":"+at[2]] = read(t, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nobody pushed at all
		t.Fatal(err)
	}
	return found
}

// login asks for a token as clients do, with the login of a file.
func (i *images) login(t *testing.T, auth string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.realm+"?service=registry.test&scope=repository:acme/widget:pull,push", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic "+auth)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// held is the login that skopeo had, as the eavesdropper kept it.
func (w *world) held(t *testing.T) (config, auth string) {
	t.Helper()
	config = read(t, filepath.Join(w.spy.canary, "auth.json"))
	var file struct {
		Auths map[string]struct{ Auth string }
	}
	if err := json.Unmarshal([]byte(config), &file); err != nil || file.Auths[w.images.host].Auth == "" {
		t.Fatalf("skopeo had no login for %s: %v", w.images.host, err)
	}
	return config, file.Auths[w.images.host].Auth
}

func TestAnImageIsPushedAndItsLoginIsGone(t *testing.T) {
	t.Parallel()
	publishing(t, "10m", func(t *testing.T, w *world) {
		job := w.job(w.release(), read(t, "publish-image.yml")+looksAround)
		job.Vars["REGISTRY"] = w.images.host
		job.Env["RUNNER_DEBUG"] = "1" // every debug line too
		job.Watch = func(m runnersim.Moment) {
			if m.ID == "push" && m.Done && m.Conclusion == runnersim.Success {
				if _, auth := w.held(t); w.images.login(t, auth) != http.StatusUnauthorized {
					t.Error("the login is taken when its step is over")
				}
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		digest := step(t, r, "push", runnersim.Main).Outputs["digest"]
		if got := w.images.pushed(t); len(got) != 1 || got["acme/widget:v1.2.3"] != digest || !strings.HasPrefix(digest, "sha256:") {
			t.Errorf("the registry has %v, and the job says %q", got, digest)
		}
		if s := step(t, r, "push", runnersim.Main).Summary; !strings.Contains(s, "/acme/widget:v1.2.3@"+digest) {
			t.Errorf("the summary says %q", s)
		}
		log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
		if !strings.Contains(log[1].Granted, "pull and push acme/widget") {
			t.Errorf("the audit log says that %q was granted", log[1].Granted)
		}
		w.wantSeenBySkopeoAlone(t, r)
		// Not even the job that looks like the first gets what was pushed without a lease.
		again := w.run(t, w.pulling(digest))
		if again.Conclusion != runnersim.Success || !strings.Contains(again.Log, "srv/widget/README.md") {
			t.Errorf("the job that pulls is %s", again.Conclusion)
		}
	})
}

// wantSeenBySkopeoAlone: the login was in a file in skopeo's time, and is nowhere in what
// the job leaves: its log, arguments, environments, state, outputs and files.
func (w *world) wantSeenBySkopeoAlone(t *testing.T, r *runnersim.Result) {
	t.Helper()
	config, auth := w.held(t)
	plain, err := base64.StdEncoding.DecodeString(auth)
	_, password, cut := strings.Cut(string(plain), ":")
	if err != nil || !cut {
		t.Fatalf("the login is none: %v", err)
	}
	for what, value := range map[string]string{"the login": config, "its encoded form": auth, "the password": password} {
		wantOnlyIn(t, r.Left, what, value)
		for _, s := range r.Steps {
			if strings.Contains(fmt.Sprintf("%+v", s), value) {
				t.Errorf("%s shows %s:\n%+v", s.Name, what, s)
			}
		}
	}
	if log := step(t, r, "push", runnersim.Main).Log; !strings.Contains(log, "it holds ***") {
		t.Errorf("what skopeo printed is not masked:\n%s", log)
	}
	w.wantNothingInMemory(t)
	// What was searched is what there was: it shows what is no secret.
	for file, what := range map[string]string{
		"mode": "600", "environ-of-stepkey": "STEPKEY_EXCHANGE=" + w.exchange.url, "environ-after": "STEPKEY_EXCHANGE=" + w.exchange.url,
		"argv-meanwhile": "--file\x00REGISTRY_AUTH_FILE=config\x00--\x00skopeo", "argv-after": "bash",
	} {
		if seen := read(t, filepath.Join(r.Left, "work", "_temp", file)); !strings.Contains(seen, what) {
			t.Errorf("%s does not show %q", file, what)
		}
	}
}

// pulling is a job that fetches the image by its digest and lists its files.
func (w *world) pulling(digest string) runnersim.Job {
	job := w.job(w.release(), `on: push
permissions:
  id-token: write
jobs:
  pull:
    runs-on: ubuntu-latest
    environment: release
    steps:
      - uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
      - shell: bash
        env:
          IMAGE: ${{ vars.IMAGE }}
        run: |
          "$RUNNER_TEMP/stepkey" exec --task publish-image --file REGISTRY_AUTH_FILE=config -- \
            skopeo copy "docker://$IMAGE" "dir:$RUNNER_TEMP/pulled"
          for layer in $(jq -r '.layers[].digest' "$RUNNER_TEMP/pulled/manifest.json"); do
            tar -tzf "$RUNNER_TEMP/pulled/${layer#sha256:}"
          done
`)
	job.Vars["IMAGE"] = w.images.host + "/acme/widget@" + digest
	return job
}

// The registry refuses what the task does not grant, and the exchange what is not a tag.
func TestAnImageGoesNowhereElse(t *testing.T) {
	t.Parallel()
	publishing(t, "10m", func(t *testing.T, w *world) {
		publish := read(t, "publish-image.yml")
		for name, try := range map[string]struct {
			workflow string
			spec     func(*githubsim.JobSpec)
			told     []string
		}{
			"another repository": {replace(t, publish, "/${{ github.repository }}:", "/acme/other:"), func(*githubsim.JobSpec) {}, []string{"acme/other", "denied"}},
			"a repository below": {replace(t, publish, "/${{ github.repository }}:", "/${{ github.repository }}/sub:"), func(*githubsim.JobSpec) {}, []string{"acme/widget/sub", "denied"}},
			"a branch":           {publish, func(s *githubsim.JobSpec) { s.Ref = "refs/heads/main" }, []string{"access_denied", "Audit id: audit_"}},
			"no environment":     {publish, func(s *githubsim.JobSpec) { s.Environment = "" }, []string{"access_denied", "Audit id: audit_"}},
		} {
			job := w.job(w.release(try.spec), try.workflow)
			job.Vars["REGISTRY"] = w.images.host
			r := w.run(t, job)
			if r.Conclusion != runnersim.Failure {
				t.Errorf("%s: the job is %s", name, r.Conclusion)
			}
			for _, words := range try.told {
				if !strings.Contains(r.Log, words) {
					t.Errorf("%s: nobody says %q:\n%s", name, words, r.Log)
				}
			}
		}
		if got := w.images.pushed(t); len(got) != 0 {
			t.Errorf("the registry has %v", got)
		}
		if n := count(w.exchange.audit(t), "revoked"); n != 2 {
			t.Errorf("%d leases have ended, want those of two jobs", n)
		}
	})
}

// A machine that loses power in the middle of a push leaves a login that dies with its
// lease, and no image.
func TestALoginWhoseRunnerDiesIsRefusedAtItsDeadline(t *testing.T) {
	t.Parallel()
	publishing(t, "10s", func(t *testing.T, w *world) {
		w.spyOn(t, "skopeo", `cp "$REGISTRY_AUTH_FILE" "$CANARY/auth.json"
: >"$CANARY/there"
sleep 3600
`)
		job := w.job(w.release(), read(t, "publish-image.yml"))
		job.Vars["REGISTRY"] = w.images.host
		job.Die = appears(t, filepath.Join(w.spy.canary, "there"))
		if r := w.run(t, job); r.Conclusion != runnersim.Lost {
			t.Errorf("the job is %s", r.Conclusion)
		}
		w.exchange.said(t, `"msg":"ending"`, `"why":"its time was over"`, `"state":"revoked"`)
		if _, auth := w.held(t); w.images.login(t, auth) != http.StatusUnauthorized {
			t.Error("the login is taken")
		}
		if got := w.images.pushed(t); len(got) != 0 {
			t.Errorf("the registry has %v", got)
		}
	})
}
