package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// desk is an exchange's folder with GitHub behind it, and what its operator types.
type desk struct {
	*testing.T
	gh  *githubsim.GitHub
	dir string
}

func sit(t *testing.T) desk {
	t.Helper()
	d := desk{t, acme(t), t.TempDir()}
	app := d.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})
	d.gh.Install(app, "acme")
	write(t, d.dir, "app.pem", app.KeyPEM())
	for _, task := range []string{"notes", "brief"} {
		write(t, d.dir, "tasks/"+task+".yaml", fmt.Appendf(nil, "task: %s\npurpose: Something to end.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
			"credential:\n  github: {repository_ids: [456789], permissions: {contents: read}}\nlimits: {ttl: 30m}\n", task))
	}
	write(t, d.dir, "stepkey.yaml", []byte("url: https://lease.example.com\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\ntasks: tasks\nprove: true\nissuers:\n  github: {kind: github, url: \""+d.gh.IssuerURL()+
		"\", private_network: true}\nbackends:\n  github: {api: \""+d.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"))
	output(t, "../..", "go", "build", "-o", d.dir+"/", "./cmd/stepkey-exchange")
	output(t, d.dir, "./stepkey-exchange", "keys", "create", "stepkey.keys")
	return d
}

// lease gets a credential of a task, each for a job of its own.
func (d desk) lease(r running, task string) *client.Grant {
	d.Helper()
	subject, err := d.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("https://lease.example.com")
	if err != nil {
		d.Fatal(err)
	}
	grant, err := r.client.Token(d.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: task})
	if err != nil {
		d.Fatal(err)
	}
	return grant
}

func (d desk) revoke(args ...string) (out string, ok bool) {
	c := exec.CommandContext(d.Context(), "./stepkey-exchange", append([]string{"revoke"}, args...)...)
	c.Dir = d.dir
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	err := c.Run()
	return said.String(), err == nil
}

func (d desk) live(want int) {
	d.Helper()
	if n := len(d.gh.LiveTokens()); n != want {
		d.Errorf("%d tokens live, want %d", n, want)
	}
}

func kill(t *testing.T, r running) {
	t.Helper()
	if err := r.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.process.Wait()
}

func TestAnOperatorEndsEverythingWhileTheExchangeIsDown(t *testing.T) {
	d := sit(t)
	r := serve(t, d.dir)
	for range 3 {
		d.lease(r, "brief")
	}
	kill(t, r)
	d.live(3)
	if out, ok := d.revoke(); ok || !strings.Contains(out, "--all") {
		t.Errorf("without saying which: %s", out)
	}
	d.live(3)
	out, ok := d.revoke("--all", "--why", "a runner was taken over")
	if !ok || strings.Count(out, "revoked") != 3 || strings.Count(out, lease.ByOperator+": a runner was taken over; confirmed; github refuses it (checked)") != 3 {
		t.Errorf("it prints:\n%s", out)
	}
	d.live(0)
	if out, ok := d.revoke("--all"); !ok || !strings.Contains(out, "nothing to end") {
		t.Errorf("once more: %s", out)
	}
	if audit := output(t, d.dir, "./stepkey-exchange", "audit"); !strings.Contains(audit, "a runner was taken over") {
		t.Errorf("the audit log:\n%s", audit)
	}
}

func TestAnOperatorEndsWhatTheyMeanBesideARunningExchange(t *testing.T) {
	d := sit(t)
	r := serve(t, d.dir)
	one, two := d.lease(r, "brief"), d.lease(r, "brief")
	d.lease(r, "notes")
	if out, ok := d.revoke("--task", "notes"); !ok || strings.Count(out, "lease_") != 1 {
		t.Errorf("a task: %s", out)
	}
	d.live(2)
	if out, ok := d.revoke("--lease", one.LeaseID, "--task", "notes"); ok {
		t.Errorf("a lease of another task: %s", out)
	}
	if out, ok := d.revoke("--lease", one.LeaseID); !ok || !strings.Contains(out, one.LeaseID) {
		t.Errorf("a lease: %s", out)
	}
	d.live(1)
	if seen, err := r.client.Introspect(t.Context(), one.LeaseToken); err != nil || seen.Active {
		t.Errorf("the running exchange says %+v, %v", seen, err)
	}
	if out, ok := d.revoke("--repo", "456789"); !ok || !strings.Contains(out, two.LeaseID) {
		t.Errorf("a repository: %s", out)
	}
	d.live(0)
	kill(t, r)
}

func TestWhatCannotBeEndedYetIsSaid(t *testing.T) {
	d := sit(t)
	r := serve(t, d.dir)
	d.lease(r, "brief")
	kill(t, r)
	d.gh.Fault(func(*http.Request) *githubsim.Fault { return &githubsim.Fault{Before: http.StatusForbidden} })
	out, ok := d.revoke("--all")
	if ok || !strings.Contains(out, "revoking") || !strings.Contains(out, "1 of 1 leases are not over yet") || !strings.Contains(out, "next try in") {
		t.Errorf("it prints:\n%s", out)
	}
	d.gh.Fault(nil)
	if out, ok := d.revoke("--all"); !ok {
		t.Errorf("once GitHub answers:\n%s", out)
	}
	d.live(0)
}

func TestAnOperatorWritesOffWhatNobodyCanConfirm(t *testing.T) {
	d := sit(t)
	r := serve(t, d.dir)
	d.lease(r, "brief")
	kill(t, r)
	d.gh.Fault(func(*http.Request) *githubsim.Fault { return &githubsim.Fault{Before: http.StatusForbidden} })
	if out, ok := d.revoke("--all", "--write-off"); ok || !strings.Contains(out, "say with --why how you know") {
		t.Errorf("without a reason: %s", out)
	}
	out, ok := d.revoke("--all", "--write-off", "--why", "the App is deleted")
	if !ok || !strings.Contains(out, "expired") || !strings.Contains(out, "an operator wrote it off: the App is deleted; github has not confirmed the end") {
		t.Errorf("it prints:\n%s", out)
	}
	if out, ok := d.revoke("--all"); !ok || !strings.Contains(out, "nothing to end") {
		t.Errorf("once more: %s", out)
	}
}
