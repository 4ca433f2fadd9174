package vault_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/internal/secret"
)

// A server, or a namespace, that never had the token says that it is gone. Where the
// configuration was changed while leases live, that is refused and nothing is asked.
func TestAnotherServerAndAnotherNamespaceProveNothing(t *testing.T) {
	former, other := start(t), start(t)
	former.namespace, other.namespace = "team/ci", "team/other"
	asked := map[string]bool{}
	served := recording(other, asked)
	other.Config.Handler = served
	former.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Namespace") == other.namespace {
			served.ServeHTTP(w, r)
			return
		}
		r.Header.Set("X-Vault-Namespace", strings.TrimSuffix(r.Header.Get("X-Vault-Namespace"), "/")) // which servers do not tell apart
		former.ServeHTTP(w, r)
	})
	c := former.config(t)
	b := former.open(t, c)
	o := order(t, b, former.now(), task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*vault.Config){
		"another server":    func(c *vault.Config) { c.Address, c.Namespace = other.URL, other.namespace },
		"another namespace": func(c *vault.Config) { c.Namespace = other.namespace },
	} {
		changed := c
		change(&changed)
		b := former.open(t, changed)
		err := b.Revoke(t.Context(), o.Lease, issued.Handle)
		if err == nil || errors.Is(err, backend.ErrLost) || !strings.Contains(err.Error(), "configure the former until its leases are over") ||
			!strings.Contains(err.Error(), former.URL+" in namespace team/ci") {
			t.Errorf("%s: revoking ends with %v", name, err)
		}
		if gone, err := b.Gone(t.Context(), o.Lease, issued.Handle); gone || err == nil || !strings.Contains(err.Error(), "configure the former") {
			t.Errorf("%s: gone: %t, %v", name, gone, err)
		}
		if err := reads(t.Context(), issued.Values, "secret/data/deploy-web"); err != nil || len(asked) > 0 {
			t.Errorf("%s: the token should live and nobody be asked: %v, %v", name, err, asked)
		}
	}
	c.Address, c.Namespace = c.Address+"/", c.Namespace+"/" // the same in other letters
	b = former.open(t, c)
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil || former.live() != 0 {
		t.Errorf("on the former: %v, %d are alive", err, former.live())
	}
	if gone, err := b.Gone(t.Context(), o.Lease, issued.Handle); !gone || err != nil {
		t.Errorf("on the former: gone: %t, %v", gone, err)
	}
}

// Leases live across an upgrade, and the first releases sealed the accessor alone.
func TestAHandleOfAFormerReleaseIsRead(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	o := order(t, b, f.now(), task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	bare := secret.New(f.tokens[issued.Values["token"].Reveal()].accessor)
	if gone, err := b.Gone(t.Context(), o.Lease, bare); gone || err != nil {
		t.Errorf("a live one: %t, %v", gone, err)
	}
	if err := b.Revoke(t.Context(), o.Lease, bare); err != nil || f.live() != 0 {
		t.Errorf("revoking: %v, %d are alive", err, f.live())
	}
	for _, broken := range []string{"{", `{"address":"` + f.URL + `"}`, "{}"} {
		if err := b.Revoke(t.Context(), o.Lease, secret.New(broken)); !errors.Is(err, backend.ErrLost) {
			t.Errorf("%s: %v", broken, err)
		}
	}
}

// What the server says of an accessor is told without it: whoever has it may end the token.
func TestAnAccessorIsNotRepeated(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	o := order(t, b, f.now(), task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	accessor := f.tokens[issued.Values["token"].Reveal()].accessor
	f.set(func() {
		f.broken = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"errors":["cannot look up ` + accessor + `"]}`))
		}
	})
	_, goneErr := b.Gone(t.Context(), o.Lease, issued.Handle)
	for _, err := range []error{b.Revoke(t.Context(), o.Lease, issued.Handle), goneErr} {
		if err == nil || !errors.Is(err, backend.ErrUnavailable) || strings.Contains(err.Error(), accessor) || !strings.Contains(err.Error(), secret.Redacted) {
			t.Errorf("it ended with %v", err)
		}
	}
}

func TestWhatIsNoSecretIsSaid(t *testing.T) {
	for namespace, want := range map[string]string{"": "address", "team/ci": "address, namespace"} {
		f := start(t)
		f.namespace = namespace
		b := f.open(t, f.config(t))
		issued, err := b.Issue(t.Context(), order(t, b, f.now(), task))
		if got := strings.Join(issued.Public, ", "); err != nil || got != want {
			t.Errorf("no secret are %s, want %s (%v)", got, want, err)
		}
	}
}
