package registry_test

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// ledger is what the store of leases is to the backend: it has a lease before anybody has
// the password, and its end before the backend is told of it.
type ledger struct {
	mu    sync.Mutex
	lives map[backend.LeaseID]bool
	fault error
}

func newLedger() *ledger { return &ledger{lives: map[backend.LeaseID]bool{}} }

func (l *ledger) set(id backend.LeaseID, lives bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lives[id] = lives
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

func (l *ledger) usable(_ context.Context, id backend.LeaseID) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lives[id], l.fault
}

// booked is the backend as the exchange uses it: what is made and what ends is written
// down. It remembers what was issued.
type booked struct {
	*registry.Backend
	ledger *ledger
	mu     sync.Mutex
	issued []map[string]secret.String
}

func (b *booked) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	made, err := b.Backend.Issue(ctx, o)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.ledger.set(o.Lease, true)
		b.issued = append(b.issued, made.Values)
	}
	return made, err
}

func (b *booked) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	b.ledger.set(lease, false)
	return b.Backend.Revoke(ctx, lease, handle)
}

// world is a backend and, once it is started, a real registry that sends clients to it.
type world struct {
	testing.TB
	*booked
	*server
	private crypto.Signer // signs tokens
	mu      sync.Mutex
	shift   time.Duration // of the backend's clock
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.shift)
}

func (w *world) shiftTo(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift = d
}

// settle opens a backend without a registry.
func settle(t testing.TB, keys ...*registry.Key) *world {
	t.Helper()
	if keys == nil {
		keys = []*registry.Key{opened(t, newKey(t), "libtrust")}
	}
	w := &world{TB: t, booked: &booked{ledger: newLedger()}}
	w.Backend = registry.New(registry.Options{Limits: limits("registry.example.com"), Keys: keys, Usable: w.ledger.usable, Now: w.now})
	return w
}

func limits(host string) registry.Limits {
	return registry.Limits{Issuer: issuer, Service: service, Registry: host, Repositories: []string{"acme/", "tools"}}
}

// mux answers as the exchange's public listener does, by whatever the backend is then.
func (w *world) mux() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mux := http.NewServeMux()
		for pattern, handler := range w.Handlers() {
			mux.Handle(pattern, handler)
		}
		mux.ServeHTTP(rw, r)
	})
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  registry: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "registry")
}

// order is for a task's block, from now on for ten minutes.
func (w *world) order(block string) backend.Order {
	w.Helper()
	scope, err := w.Scope(node(w.TB, block))
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

// token logs in by the values of a credential, and fails if that is refused.
func (w *world) token(ctx context.Context, values map[string]secret.String, scopes ...string) (string, error) {
	a, err := w.login(ctx, values["username"].Reveal(), values["password"].Reveal(), scopes...)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("the login is refused with %d: %s", a.Status, a.Description)
	}
	return a.Token, err
}

func (w *world) pushes(repository string) func(context.Context, map[string]secret.String) error {
	return func(ctx context.Context, values map[string]secret.String) error {
		token, err := w.token(ctx, values, "repository:"+repository+":push,pull")
		if err != nil {
			return err
		}
		own := strings.ToLower(ulid.Make().String())
		return w.pushAs(ctx, token, repository, own, own)
	}
}

var errUnauthorized = errors.New("the registry refuses the token")

// takes asks the registry, which has no repository before the first push.
func (w *world) takes(ctx context.Context, token string) error {
	status, _, err := w.call(ctx, token, http.MethodGet, "/v2/acme/widget/tags/list", nil)
	if err == nil && status == http.StatusUnauthorized {
		err = errUnauthorized
	}
	return err
}

func (w *world) lists(ctx context.Context, values map[string]secret.String) error {
	token, err := w.token(ctx, values, "repository:acme/widget:pull")
	if err != nil {
		return err
	}
	return w.takes(ctx, token)
}

// hold gets a token, which the registry takes without asking us.
func (w *world) hold(ctx context.Context, values map[string]secret.String) (func() bool, error) {
	token, err := w.token(ctx, values, "repository:acme/widget:pull")
	return func() bool { return w.takes(ctx, token) == nil }, err
}

// dies reads a password. It is refused then, and tokens of it that are out a little later.
func dies(values map[string]secret.String) (time.Time, error) {
	body, _, _ := strings.Cut(strings.TrimPrefix(values["password"].Reveal(), "skr_"), ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return time.Time{}, err
	}
	var says struct{ Until int64 }
	err = json.Unmarshal(text, &says)
	return time.Unix(says.Until, 0), err
}

// live counts by logging in with everything that was issued, and asking the registry.
func (w *world) live() int {
	w.booked.mu.Lock()
	defer w.booked.mu.Unlock()
	n := 0
	for _, values := range w.issued {
		if w.lists(w.Context(), values) == nil {
			n++
		}
	}
	return n
}

const (
	good     = "repositories: [acme/widget]\nactions: [pull, push]"
	narrower = "repositories: [acme/widget]\nactions: [pull]"
	wider    = "repositories: [acme/widget, acme/other]\nactions: [pull, push, delete]\npull_from: [tools]"
)

func naming(name string) string { return "repositories: [" + name + "]\nactions: [pull]" }

var hostile = map[string]string{
	"no repository":                   "repositories: []\nactions: [pull]",
	"repositories absent":             "actions: [pull]",
	"every repository":                naming(`"*"`),
	"all below a name":                naming("acme/"),
	"all below a name, by a star":     naming(`"acme/*"`),
	"a repository nobody gave":        naming("other/widget"),
	"a name that begins like ours":    naming("acme"),
	"a name that goes up":             naming("acme/../other/widget"),
	"a name with a tag":               naming(`"acme/widget:latest"`),
	"a name with a digest":            naming(`"acme/widget@sha256:aa"`),
	"a name with its registry":        naming(`"localhost:5000/acme/widget"`),
	"a name with actions":             naming(`"acme/widget:pull,push"`),
	"two names in one":                naming(`"acme/widget acme/other"`),
	"two names in lines":              naming(`"acme/widget\nacme/other"`),
	"a name in capitals":              naming("acme/Widget"),
	"a name of another script":        naming("acme/wid\u0435t"),
	"a name with a NUL":               naming(`"acme/widget\0"`),
	"a name that turns text":          naming(`"acme/\u202ewidget"`),
	"an empty part":                   naming("acme//widget"),
	"a name from the root":            naming("/acme/widget"),
	"a name in percent":               naming(`"acme%2fwidget"`),
	"an empty name":                   naming(`""`),
	"a number":                        naming("7"),
	"a very long name":                naming("acme/" + strings.Repeat("a", 251)),
	"a repository twice":              naming("acme/a, acme/a"),
	"names too long to travel":        naming("acme/" + strings.Join(longNames(), ", acme/")),
	"no action":                       "repositories: [acme/widget]\nactions: []",
	"actions absent":                  "repositories: [acme/widget]",
	"every action":                    "repositories: [acme/widget]\nactions: [\"*\"]",
	"two actions in one":              "repositories: [acme/widget]\nactions: [\"pull,push\"]",
	"an action in capitals":           "repositories: [acme/widget]\nactions: [PULL]",
	"an action twice":                 "repositories: [acme/widget]\nactions: [pull, pull]",
	"push without pull":               "repositories: [acme/widget]\nactions: [push]",
	"pull from nowhere":               good + "\npull_from: []",
	"pull from what it also pushes":   good + "\npull_from: [acme/widget]",
	"pull from what nobody gave":      good + "\npull_from: [other/base]",
	"an unknown key":                  good + "\nttl: 99h",
	"a digest, which nothing can tie": good + "\ndigest: sha256:aa",
}

func longNames() []string {
	var all []string
	for i := range 12 {
		all = append(all, strings.Repeat("a", 200)+fmt.Sprint(i))
	}
	return all
}

func TestLoginsPassTheSuite(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Harness{
				Good: good, Narrower: narrower, Wider: wider, Hostile: hostile, Local: true,
				Open: func(t testing.TB) backendtest.World {
					w := k.found(t)
					return backendtest.World{
						Backend: w.booked, Now: w.now, Live: w.live, Dies: dies, Hold: w.hold, Secrets: []string{string(privatePEM(t, w.private))},
						Use: w.pushes("acme/widget"), UseLess: w.lists, Overstep: w.pushes("acme/other"),
					}
				},
				Says: backendtest.Phrases{
					Good: []string{"pull and push acme/widget"}, Narrower: []string{"pull acme/widget"},
					Wider: []string{"delete and pull and push acme/other, acme/widget", "pull tools"},
				},
				Overtime: 2 * time.Minute, // of a token that is out
				Unproven: "whether a password is taken is looked up in the exchange's own store, which has its end before Revoke",
			})
		})
	}
}

var errDown = errors.New("the store does not answer")
