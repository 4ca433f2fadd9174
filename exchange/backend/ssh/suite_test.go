package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// ledger is what the store of leases is to the backend: it has an end before the backend
// is told of it.
type ledger struct {
	mu    sync.Mutex
	ended []backend.LeaseID
	fault error
	reads int
}

func (l *ledger) end(id backend.LeaseID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, id)
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

func (l *ledger) withdrawn(context.Context) ([]backend.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	return append([]backend.LeaseID(nil), l.ended...), l.fault
}

// booked is the backend as the exchange uses it: the end is written down, then told. It
// remembers what was issued.
type booked struct {
	*ssh.Backend
	ledger *ledger
	mu     sync.Mutex
	issued []map[string]secret.String
}

func (b *booked) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	made, err := b.Backend.Issue(ctx, o)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.issued = append(b.issued, made.Values)
	}
	return made, err
}

func (b *booked) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	b.ledger.end(lease)
	return b.Backend.Revoke(ctx, lease, handle)
}

// world is a backend and a real sshd that goes by its list.
type world struct {
	*sshd
	*booked
	shift time.Duration // of the backend's clock
}

func (w *world) now() time.Time { return time.Now().Add(w.shift) }

func settle(t testing.TB) *world {
	t.Helper()
	w := &world{sshd: startSSHD(t)}
	w.booked = &booked{ledger: &ledger{}}
	w.Backend = w.open(w.ledger, w.ca)
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open(l *ledger, authorities ...cryptossh.Signer) *ssh.Backend {
	w.Helper()
	limits, err := ssh.Config{Principals: []string{"deploy", "backup", "root"}, Hosts: map[string][]string{
		"web1.example.com": {w.HostKey}, w.Address: {w.HostKey},
	}}.Limits()
	if err != nil {
		w.Fatal(err)
	}
	return ssh.New(ssh.Options{Limits: limits, Authorities: authorities, KRL: w.KRL, Ended: l.withdrawn, Now: w.now})
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  ssh: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "ssh")
}

// order is for a task's block, from now on for ten minutes.
func (w *world) order(block string) backend.Order {
	w.Helper()
	scope, err := w.Scope(node(w, block))
	if err != nil {
		w.Fatal(err)
	}
	return backend.Order{Lease: newLease(), Scope: scope, At: w.now(), Until: w.now().Add(10 * time.Minute)}
}

func (w *world) issue(block string) (backend.LeaseID, map[string]secret.String) {
	w.Helper()
	o := w.order(block)
	made, err := w.Issue(w.Context(), o)
	if err != nil {
		w.Fatal(err)
	}
	return o.Lease, made.Values
}

func (w *world) revoke(id backend.LeaseID) {
	w.Helper()
	if err := w.Revoke(w.Context(), id, secret.String{}); err != nil {
		w.Fatal(err)
	}
}

// live counts by logging in with everything that was issued.
func (w *world) live() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, values := range w.issued {
		if client, err := w.dial(w.Context(), values); err == nil {
			client.Close()
			n++
		}
	}
	return n
}

func (w *world) prints(ctx context.Context, values map[string]secret.String, want string) error {
	said, err := w.run(ctx, values, "echo anything")
	if err == nil && said != want {
		err = fmt.Errorf("it printed %q", said)
	}
	return err
}

const (
	anyCommand = "principals: [deploy]\nhosts: [web1.example.com]"
	good       = anyCommand + "\nforce_command: /bin/echo deployed"
	narrower   = good + "\nsource_address: [127.0.0.2]"
	wider      = "principals: [backup, deploy]\nhosts: [web1.example.com]\nextensions: [permit-pty]"
)

var hostile = map[string]string{
	"no principal":                  "principals: []\nhosts: [web1.example.com]",
	"principals absent":             "hosts: [web1.example.com]",
	"a principal nobody gave":       "principals: [admin]\nhosts: [web1.example.com]",
	"every principal":               "principals: [\"*\"]\nhosts: [web1.example.com]",
	"two principals in one":         "principals: [\"deploy,root\"]\nhosts: [web1.example.com]",
	"a principal of two lines":      "principals: [\"deploy\\nroot\"]\nhosts: [web1.example.com]",
	"an option as a principal":      "principals: [-oProxyCommand=x]\nhosts: [web1.example.com]",
	"a principal of another script": "principals: [d\u0435ploy]\nhosts: [web1.example.com]",
	"a principal with a NUL":        "principals: [\"deploy\\0\"]\nhosts: [web1.example.com]",
	"no host":                       "principals: [deploy]\nhosts: []",
	"a host without keys":           "principals: [deploy]\nhosts: [web9.example.com]",
	"every host":                    "principals: [deploy]\nhosts: [\"*\"]",
	"two hosts in one":              "principals: [deploy]\nhosts: [\"web1.example.com,web2.example.com\"]",
	"a host that is a line":         "principals: [deploy]\nhosts: [\"web1.example.com ssh-ed25519 AAAA\"]",
	"an empty command":              anyCommand + "\nforce_command: \"\"",
	"a command found by its name":   anyCommand + "\nforce_command: deploy",
	"a command of two lines":        anyCommand + "\nforce_command: \"/bin/true\\n/bin/sh\"",
	"a command with a NUL":          anyCommand + "\nforce_command: \"/bin/true\\0\"",
	"a command that turns text":     anyCommand + "\nforce_command: \"/bin/true \\u202e\"",
	"a very long command":           anyCommand + "\nforce_command: /" + strings.Repeat("a", 5000),
	"everywhere":                    good + "\nsource_address: [0.0.0.0/0]",
	"no address":                    good + "\nsource_address: []",
	"an address with a name":        good + "\nsource_address: [bastion.example.com]",
	"a range that is cut":           good + "\nsource_address: [203.0.113.7/24]",
	"two ranges in one":             good + "\nsource_address: [\"203.0.113.0/24,0.0.0.0/0\"]",
	"all but one address":           good + "\nsource_address: [\"!203.0.113.7\"]",
	"an unknown extension":          good + "\nextensions: [permit-everything]",
	"an extension with a value":     good + "\nextensions: [{permit-pty: yes}]",
	"a critical option":             good + "\nextensions: [verify-required]",
	"an unknown key":                good + "\nttl: 99h",
}

// hold keeps a connection open, which takes commands as long as it is there.
func (w *world) hold(ctx context.Context, values map[string]secret.String) (func() bool, error) {
	client, err := w.dial(ctx, values)
	if err != nil {
		return nil, err
	}
	w.Cleanup(func() { client.Close() })
	return func() bool {
		_, err := output(client, "echo anything")
		return err == nil
	}, nil
}

// dies is when hosts refuse a certificate that nobody revoked.
func dies(values map[string]secret.String) (time.Time, error) {
	public, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(values["certificate"].Reveal()))
	if err != nil {
		return time.Time{}, err
	}
	certificate, ok := public.(*cryptossh.Certificate)
	if !ok {
		return time.Time{}, errors.New("the value certificate is none")
	}
	const far = 1 << 40 // seconds; for ever, which OpenSSH writes as 1<<64 - 1, is before the epoch as an int64
	return time.Unix(int64(min(certificate.ValidBefore, far)), 0), nil
}

func TestCertificatesPassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Good: good, Narrower: narrower, Wider: wider, Hostile: hostile, Local: true,
		Says: backendtest.Phrases{
			Good: []string{`only the command "/bin/echo deployed"`}, Narrower: []string{`only the command "/bin/echo deployed"`, "from 127.0.0.2"},
			Wider: []string{"backup", "any command", "with permit-pty"},
		},
		Overtime: 2 * time.Minute, // for clocks that differ
		Unproven: "the hosts alone refuse a certificate, and the exchange logs in to none",
		Open: func(t testing.TB) backendtest.World {
			w := settle(t)
			return backendtest.World{
				Backend: w.booked, Now: w.now, Live: w.live, Dies: dies, Hold: w.hold, Secrets: []string{privatePEM(t, w.caKey)},
				UseLess: func(ctx context.Context, values map[string]secret.String) error {
					client, err := w.dialFrom(ctx, net.IPv4(127, 0, 0, 2), values)
					if err != nil {
						return err
					}
					defer client.Close()
					_, err = output(client, "echo anything")
					return err
				},
				Use: func(ctx context.Context, values map[string]secret.String) error {
					return w.prints(ctx, values, "deployed")
				},
				Overstep: func(ctx context.Context, values map[string]secret.String) error {
					return w.prints(ctx, values, "anything")
				},
			}
		},
	})
}

var errDown = errors.New("the store does not answer")

func publicLine(s cryptossh.Signer) []byte { return cryptossh.MarshalAuthorizedKey(s.PublicKey()) }
