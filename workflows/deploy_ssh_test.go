package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// host is one that jobs deploy to, set up as docs/backends/ssh.md says, by its scripts.
type host struct {
	*realserver.SSHD
	keys  string // a folder with the exchange's key
	top   string // where deployments go
	fetch []string
	url   string // of the list of revoked certificates
}

const ownPrincipal = "deploy@web1.example.com"

// deploying is a story of a job that deploys to a host. What ssh does before it is the
// real one is the eavesdropper's.
func deploying(t *testing.T, ttl, eavesdropper string, story func(t *testing.T, w *world)) {
	t.Helper()
	s := setting{beside: func(t *testing.T, w *world) (string, map[string]string, map[string]string) {
		needs.Programs(t, "ssh", "ssh-keygen", "curl", "tar")
		keys := t.TempDir()
		command(t, "sh", "-euc", "cd "+keys+"\n"+page("ssh.md").Block(t, "sh", "ssh-keygen -t ed25519"))
		w.host = startHost(t, w.address, keys, ownPrincipal)
		w.spyOn(t, "ssh", eavesdropper)

		command := filepath.Join(t.TempDir(), "deploy-widget")
		program(t, command, replace(t, page("ssh.md").Block(t, "sh", "#!/bin/sh\n# deploy-widget"), "/srv/widget", w.host.top))
		task := read(t, filepath.Join("testdata", "deploy-web.yaml"))
		if page := page("ssh.md").Block(t, "yaml", "# tasks/deploy-web1.yaml"); !strings.Contains(task, strings.TrimPrefix(page, "# tasks/deploy-web1.yaml\n")) {
			t.Errorf("the page has another block than the task:\n%s", page)
		}
		task = replace(t, task, "[web1.example.com]", fmt.Sprintf("[%q]", w.host.Address))
		task = replace(t, replace(t, task, "/usr/local/bin/deploy-widget", command), "ttl: 10m", "ttl: "+ttl)
		backends := fmt.Sprintf("  ssh: {ca: [ssh_ca], principals: [%q], hosts: {%q: [%q]}}\n", ownPrincipal, w.host.Address, w.host.HostKey)
		return backends, map[string]string{"deploy-web.yaml": task}, map[string]string{"ssh_ca": read(t, filepath.Join(keys, "ssh_ca"))}
	}}
	onTheMachine(t, s, func(t *testing.T, w *world) {
		front, certificate := behindTLS(t, w.exchange.url, w.address) // the script fetches by TLS alone
		ca := filepath.Join(t.TempDir(), "ca.pem")
		write(t, ca, certificate)
		script := filepath.Join(t.TempDir(), "fetch-krl")
		program(t, script, page("ssh.md").Block(t, "sh", "#!/bin/sh\n# fetch-krl"))
		w.host.url, w.host.fetch = front+"/ssh/krl", []string{"env", "CURL_CA_BUNDLE=" + ca, script}
		w.host.update(t)
		story(t, w)
	})
}

// startHost starts a host that trusts the exchange, and lets one principal in.
func startHost(t *testing.T, address, keys, principal string) *host {
	t.Helper()
	server, err := realserver.StartSSHD(t.Context(), t.TempDir(), address)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the host of %s said:\n%s", principal, server.Log)
		}
	})
	write(t, server.CA, []byte(read(t, filepath.Join(keys, "ssh_ca.pub"))))
	write(t, server.Principals(server.User), []byte(principal+"\n"))
	return &host{SSHD: server, keys: keys, top: t.TempDir()}
}

// update has the host fetch the list, as its timer would.
func (h *host) update(t *testing.T) {
	t.Helper()
	command(t, h.fetch[0], append(h.fetch[1:], h.url, h.KRL)...)
}

// takes says whether the host lets in who has what is in a folder. What its command then
// says of an empty archive is another thing.
func (h *host) takes(t *testing.T, dir string) bool {
	t.Helper()
	login := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes",
		"-i", filepath.Join(dir, "id"), "-o", "UserKnownHostsFile="+filepath.Join(dir, "known_hosts"), h.to())
	said, err := login.CombinedOutput()
	refused := strings.Contains(string(said), "Permission denied")
	if code := (*exec.ExitError)(nil); err == nil || !errors.As(err, &code) || (code.ExitCode() == 255) != refused {
		t.Fatalf("logging in: %v: %s", err, said)
	}
	return !refused
}

func (h *host) to() string { return "ssh://" + h.User + "@" + h.Address }

// deployed is the text of a file as it is deployed, or nothing.
func (h *host) deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.top, "current", name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// deployment is a run of the workflow for the main branch.
func (w *world) deployment(workflow string, change ...func(*githubsim.JobSpec)) runnersim.Job {
	spec := githubsim.JobSpec{Repository: "acme/widget", Workflow: ".github/workflows/deploy-ssh.yml", Environment: "production", IDToken: true}
	for _, c := range change {
		c(&spec)
	}
	job := w.job(spec, workflow)
	job.Vars["DEPLOY_TO"] = w.host.to()
	return job
}

// keeps is what the eavesdropper takes from the command.
const keeps = `cp "$SSH_KEY" "$CANARY/id"
cp "$SSH_CERTIFICATE" "$CANARY/id-cert.pub"
cp "$SSH_KNOWN_HOSTS" "$CANARY/known_hosts"
`

func TestACommitIsDeployedAndItsCertificateIsRevoked(t *testing.T) {
	t.Parallel()
	deploying(t, "10m", keeps+`cat "$SSH_KEY" "$SSH_CERTIFICATE"
stat -c %a "$SSH_KEY" >"$RUNNER_TEMP/mode"
cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-meanwhile" 2>/dev/null || true
cat /proc/$(cut -d' ' -f4 </proc/$PPID/stat)/environ >"$RUNNER_TEMP/environ-of-stepkey"
`, func(t *testing.T, w *world) {
		job := w.deployment(read(t, "deploy-ssh.yml") + looksAround)
		job.Env["RUNNER_DEBUG"] = "1" // every debug line too
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		if w.host.deployed(t, "README.md") != "widget" || w.host.deployed(t, "src/main.c") != "int main;" {
			t.Errorf("what is deployed is not the commit's")
		}
		if left, err := filepath.Glob(w.host.top + "/*"); err != nil || len(left) != 2 {
			t.Errorf("the host has %v", left)
		}
		log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
		if !strings.Contains(log[1].Granted, ownPrincipal) || !strings.Contains(w.host.Log.String(), log[1].Lease) {
			t.Errorf("the audit log says that %q was granted, and the host's does not name %s", log[1].Granted, log[1].Lease)
		}
		w.wantSeenBySSHAlone(t, r)
		// The host goes by the list that it has.
		if !w.host.takes(t, w.spy.canary) {
			t.Error("the host refuses the certificate for something else than the list")
		}
		w.wantOnTheList(t)
	})
}

// wantOnTheList: once the host has fetched the list, it refuses the certificate. The
// served list may be a second old.
func (w *world) wantOnTheList(t *testing.T) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for w.host.update(t); w.host.takes(t, w.spy.canary); w.host.update(t) {
		select {
		case <-ctx.Done():
			t.Fatal("the host takes a certificate of a lease that has ended")
		case <-again.C:
		}
	}
	if !strings.Contains(w.host.Log.String(), "revoked") {
		t.Error("the host refuses, but for another reason")
	}
}

// wantSeenBySSHAlone: the key was in a file in ssh's time, and is nowhere in what the job
// leaves: its log, arguments, environments, state, outputs and files.
func (w *world) wantSeenBySSHAlone(t *testing.T, r *runnersim.Result) {
	t.Helper()
	key := read(t, filepath.Join(w.spy.canary, "id"))
	for what, value := range map[string]string{
		"the key": key, "a line of the key": strings.Split(key, "\n")[2], "the certificate": read(t, filepath.Join(w.spy.canary, "id-cert.pub")),
	} {
		wantOnlyIn(t, r.Left, what, value)
		for _, s := range r.Steps {
			if strings.Contains(fmt.Sprintf("%+v", s), value) {
				t.Errorf("%s shows %s:\n%+v", s.Name, what, s)
			}
		}
	}
	if log := step(t, r, "deploy", runnersim.Main).Log; !strings.Contains(log, "***") {
		t.Errorf("what ssh printed is not masked:\n%s", log)
	}
	w.wantNothingInMemory(t)
	// What was searched is what there was: it shows what is no secret.
	for file, what := range map[string]string{
		"mode": "600", "environ-of-stepkey": "STEPKEY_EXCHANGE=" + w.exchange.url, "environ-after": "STEPKEY_EXCHANGE=" + w.exchange.url,
		"argv-meanwhile": "--file\x00SSH_KEY=key\x00--file\x00SSH_CERTIFICATE=certificate", "argv-after": "bash",
	} {
		if seen := read(t, filepath.Join(r.Left, "work", "_temp", file)); !strings.Contains(seen, what) {
			t.Errorf("%s does not show %q", file, what)
		}
	}
}

// Whoever has the key tries all else that it could be good for. "$@" is what the
// workflow gives ssh, with the host at its end.
const tries = keeps + `try() {
  said=$CANARY/$1
  shift
  ssh=$(PATH=${PATH#*:} command -v ssh)
  "$ssh" "$@" </dev/null >"$said" 2>&1 || true
}
try a-command "$@" "cat /etc/hostname; echo it is in"
try a-terminal "$@" -tt
try a-connection -W "$EXCHANGE" "$@"
try a-user -l nobody "$@"
try an-unknown-host -l "$OTHER_USER" -p "$OTHER_PORT" "$OTHER_ADDRESS" "$@"
try another-host -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -l "$OTHER_USER" -p "$OTHER_PORT" "$OTHER_ADDRESS" "$@"
`

func TestADeploymentsCertificateDoesNothingElse(t *testing.T) {
	t.Parallel()
	deploying(t, "10m", tries, func(t *testing.T, w *world) {
		other := startHost(t, w.address, w.host.keys, "deploy@web2.example.com")
		write(t, other.KRL, []byte(read(t, w.host.KRL)))
		address, port, err := net.SplitHostPort(other.Address)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"OTHER_ADDRESS": address, "OTHER_PORT": port, "OTHER_USER": other.User, "EXCHANGE": strings.TrimPrefix(w.exchange.url, "http://"),
		} {
			w.runner.Host[name] = value
		}
		if r := w.run(t, w.deployment(read(t, "deploy-ssh.yml"))); r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		for try, told := range map[string]string{
			"a-command":       "unexpected end of file", // what deploys found no archive
			"a-terminal":      "PTY allocation request failed",
			"a-connection":    "administratively prohibited",
			"a-user":          "Permission denied",
			"an-unknown-host": "Host key verification failed",
			"another-host":    "Permission denied",
		} {
			said := read(t, filepath.Join(w.spy.canary, try))
			if !strings.Contains(said, told) || strings.Contains(said, "it is in") {
				t.Errorf("%s: it says %q, want %q", try, said, told)
			}
		}
		if !strings.Contains(other.Log.String(), "does not contain an authorized principal") {
			t.Errorf("the other host refuses for another reason:\n%s", other.Log)
		}
	})
}

// Of what comes broken nothing is deployed, and of what is not the main branch's nothing
// is sent.
func TestADeploymentIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	deploying(t, "10m", "", func(t *testing.T, w *world) {
		deploy := read(t, "deploy-ssh.yml")
		for name, try := range map[string]struct {
			workflow string
			spec     func(*githubsim.JobSpec)
			told     string
		}{
			"half an archive": {replace(t, deploy, `<"$RUNNER_TEMP/deploy.tar.gz"`, `< <(head -c 100 "$RUNNER_TEMP/deploy.tar.gz")`), func(*githubsim.JobSpec) {}, "unexpected end of file"},
			"a branch":        {deploy, func(s *githubsim.JobSpec) { s.Ref = "refs/heads/feature" }, "access_denied"},
			"no environment":  {deploy, func(s *githubsim.JobSpec) { s.Environment = "" }, "access_denied"},
		} {
			r := w.run(t, w.deployment(try.workflow, try.spec))
			if r.Conclusion != runnersim.Failure || !strings.Contains(r.Log, try.told) {
				t.Errorf("%s: the job is %s, and nobody says %q:\n%s", name, r.Conclusion, try.told, r.Log)
			}
		}
		if left, err := filepath.Glob(w.host.top + "/*"); err != nil || len(left) > 0 {
			t.Errorf("the host has %v", left)
		}
	})
}

// A machine that loses power in the middle leaves a certificate that is on the list at
// its lease's end, which is when it dies by itself, too.
func TestACertificateWhoseRunnerDiesIsOnTheListAtItsDeadline(t *testing.T) {
	t.Parallel()
	deploying(t, "10s", keeps+`: >"$CANARY/there"
sleep 3600
`, func(t *testing.T, w *world) {
		job := w.deployment(read(t, "deploy-ssh.yml"))
		job.Die = appears(t, filepath.Join(w.spy.canary, "there"))
		if r := w.run(t, job); r.Conclusion != runnersim.Lost {
			t.Errorf("the job is %s", r.Conclusion)
		}
		w.exchange.said(t, `"msg":"ending"`, `"why":"its time was over"`, `"state":"revoked"`)
		w.wantOnTheList(t)
	})
}
