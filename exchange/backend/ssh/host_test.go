package ssh_test

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
)

// keep puts a credential into files, named as ssh looks for them.
func (w *world) keep(values map[string]secret.String) (key string) {
	w.Helper()
	dir := w.TempDir()
	write(w, dir+"/id", values["key"].Reveal())
	write(w, dir+"/id-cert.pub", values["certificate"].Reveal())
	write(w, dir+"/known_hosts", values["known_hosts"].Reveal())
	return dir + "/id"
}

// ssh is the real client, with the options that docs/backends/ssh.md has.
func (w *world) ssh(values map[string]secret.String, command ...string) (string, error) {
	w.Helper()
	key := w.keep(values)
	_, port, _ := net.SplitHostPort(w.Address)
	args := append([]string{"-F", "none", "-o", "BatchMode=yes", "-i", key, "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile=" + key[:len(key)-len("id")] + "known_hosts", "-p", port, w.User + "@127.0.0.1"}, command...)
	said, err := exec.CommandContext(w.Context(), "ssh", args...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

func (w *world) here() string {
	return fmt.Sprintf("{principals: [deploy], hosts: [%q]", w.Address)
}

func TestTheRealClientLogsInWithTheThreeValues(t *testing.T) {
	needs.Programs(t, "ssh", "ssh-keygen")
	w := settle(t)
	id, values := w.issue(w.here() + "}")
	if said, err := w.ssh(values, "echo", "in"); err != nil || said != "in" {
		t.Errorf("it says %q, %v; the host says\n%s", said, err, w.SSHD.Log)
	}
	if !strings.Contains(w.SSHD.Log.String(), string(id)) {
		t.Errorf("the host's log does not name the lease:\n%s", w.SSHD.Log)
	}
	shown, err := exec.CommandContext(t.Context(), "ssh-keygen", "-L", "-f", w.keep(values)+"-cert.pub").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Key ID: "` + string(id) + `"`, "user certificate", "Critical Options: (none)", "Extensions: (none)"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	_, values = w.issue(w.here() + ", force_command: '/bin/echo deployed'}")
	if said, err := w.ssh(values, "cat", "/etc/passwd"); err != nil || said != "deployed" {
		t.Errorf("with a forced command it says %q, %v", said, err)
	}
}

func TestAHostWithAnotherKeyIsNotSpokenTo(t *testing.T) {
	needs.Programs(t, "ssh")
	w := settle(t)
	_, impostor := newSigner(t)
	w.HostKey = strings.TrimSpace(string(publicLine(impostor)))
	w.Backend = w.open(w.ledger, w.ca)
	_, values := w.issue(w.here() + "}")
	if said, err := w.ssh(values, "true"); err == nil || !strings.Contains(said, "host key") && !strings.Contains(said, "HOST IDENTIFICATION") {
		t.Errorf("it says %q, %v", said, err)
	}
}

func TestHostsRefuseWhatTheCertificateDoesNotSay(t *testing.T) {
	for name, c := range map[string]struct {
		block string
		shift time.Duration
		why   string
	}{
		"another address":   {"{principals: [deploy], hosts: [web1.example.com], source_address: [203.0.113.0/24]}", 0, "not from a permitted source address"},
		"another principal": {"{principals: [root], hosts: [web1.example.com]}", 0, "does not contain an authorized principal"},
		"too late":          {"{principals: [deploy], hosts: [web1.example.com]}", -time.Hour, "expired"},
		"too early":         {"{principals: [deploy], hosts: [web1.example.com]}", time.Hour, "not yet valid"},
	} {
		t.Run(name, func(t *testing.T) {
			w := settle(t)
			w.shift = c.shift
			_, values := w.issue(c.block)
			w.refuses(values, c.why)
		})
	}
	t.Run("another authority", func(t *testing.T) {
		w := settle(t)
		_, stranger := newSigner(t)
		w.Backend = w.open(w.ledger, stranger)
		_, values := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
		w.refuses(values, "CA")
	})
}

func TestASessionHasOnlyWhatWasAskedFor(t *testing.T) {
	w := settle(t)
	_, bare := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	_, full := w.issue("{principals: [deploy], hosts: [web1.example.com], extensions: [permit-pty, permit-port-forwarding]}")
	for _, c := range []struct {
		values map[string]secret.String
		want   bool
	}{{bare, false}, {full, true}} {
		client, err := w.dial(t.Context(), c.values)
		if err != nil {
			t.Fatal(err)
		}
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.RequestPty("xterm", 24, 80, nil); (err == nil) != c.want {
			t.Errorf("a terminal: %v, want it %t", err, c.want)
		}
		through, err := client.Dial("tcp", w.Address)
		if (err == nil) != c.want {
			t.Errorf("a connection through the host: %v, want it %t", err, c.want)
		}
		if err == nil {
			through.Close()
		}
		client.Close()
	}
}

// What the pages promise of revocation, and what they do not.
func TestRevokingStopsNewLoginsAtOnceAndNoOpenSession(t *testing.T) {
	w := settle(t)
	id, values := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	_, other := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	client, err := w.dial(t.Context(), values)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	to, _ := session.StdinPipe()
	from, _ := session.StdoutPipe()
	if err := session.Start("cat"); err != nil {
		t.Fatal(err)
	}

	w.revoke(id)
	w.refuses(values, "revoked")

	if _, err := io.WriteString(to, "still here\n"); err != nil {
		t.Errorf("the open session: %v", err)
	}
	said := make([]byte, len("still here\n"))
	if _, err := io.ReadFull(from, said); err != nil || string(said) != "still here\n" {
		t.Errorf("the open session says %q, %v", said, err)
	}
	if second, err := client.NewSession(); err != nil { // not even that is asked for again
		t.Errorf("another session on the same connection: %v", err)
	} else if err := second.Run("true"); err != nil {
		t.Errorf("another session on the same connection: %v", err)
	}
	if _, err := w.run(t.Context(), other, "true"); err != nil {
		t.Errorf("the certificate of another lease: %v", err)
	}
	if words := w.order("{principals: [deploy], hosts: [web1.example.com]}").Scope.String(); !strings.Contains(words, "an open session goes on") {
		t.Errorf("the words do not say so: %s", words)
	}
}

// Nothing of the list is kept but in the leases, so a new process makes the same.
func TestWhatWasRevokedStaysSoAfterARestartAndUnderANewAuthority(t *testing.T) {
	w := settle(t)
	id, values := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	_, living := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	w.revoke(id)

	_, next := newSigner(t)
	write(t, w.CA, string(publicLine(w.ca))+string(publicLine(next)))
	w.Backend = w.open(w.ledger, next, w.ca)
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.refuses(values, "revoked")
	if _, err := w.run(t.Context(), living, "true"); err != nil {
		t.Errorf("of the authority before, not revoked: %v", err)
	}
	id, values = w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	if _, err := w.run(t.Context(), values, "true"); err != nil {
		t.Errorf("of the new authority: %v", err)
	}
	w.revoke(id)
	w.refuses(values, string(id))
	if n := w.live(); n != 1 {
		t.Errorf("%d log in, want 1", n)
	}
}

func TestAListOfManyIsTakenByTheHost(t *testing.T) {
	w := settle(t)
	for range 20_000 {
		w.ledger.end(newLease())
	}
	id, values := w.issue("{principals: [deploy], hosts: [web1.example.com]}")
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.run(t.Context(), values, "true"); err != nil {
		t.Fatalf("beside 20,000 others: %v", err)
	}
	w.revoke(id)
	w.refuses(values, "revoked")
}

func TestSerialsAreTheLeasesOwn(t *testing.T) {
	w := settle(t)
	needs.Programs(t, "ssh-keygen")
	w.ledger.end("lease_01ARZ3NDEKTSV4RRFFQ69G5FAV")
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	shown, err := exec.CommandContext(t.Context(), "ssh-keygen", "-Q", "-l", "-f", w.KRL).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	if want := "serial: " + "5503943799937875291"; !strings.Contains(string(shown), want) {
		t.Errorf("no %q in\n%s", want, shown)
	}
}
