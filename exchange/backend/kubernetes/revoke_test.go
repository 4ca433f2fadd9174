package kubernetes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/internal/secret"
)

// every is one block of each form.
var every = map[string]string{
	"rules":           "{namespace: web, rules: [{resources: [configmaps], verbs: [get, list, watch]}]}",
	"role":            "{namespace: web, role: deployer}",
	"cluster role":    "{namespace: web, cluster_role: view}",
	"service account": "{namespace: web, service_account: publisher}",
}

// After a revocation API servers refuse the token, for all forms within what the scope's
// words and the page say; with a binding of its own it may do nothing before.
func TestARevokedTokenIsRefused(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, issued := s.issue(block)
			if got := s.get(issued, configmaps); got != http.StatusOK {
				t.Fatalf("before it is answered %d", got)
			}
			began := time.Now()
			if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
				t.Fatal(err)
			}
			seen := map[int]time.Duration{}
			err := s.forgotten(t.Context(), issued.Values["token"], func(status int) bool {
				if _, before := seen[status]; !before {
					seen[status] = time.Since(began)
				}
				return status == http.StatusUnauthorized
			})
			t.Logf("first answers after the revocation: %v", seen)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A watch that is open survives its token: what Terms calls remaining remains.
func TestAnOpenWatchGoesOnAndTermsSaySo(t *testing.T) {
	s := stage(t)
	for name, block := range map[string]string{"rules": every["rules"], "service account": every["service account"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, issued := s.issue(block)
			events := s.watch(t, issued)
			if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
				t.Fatal(err)
			}
			if err := s.forgotten(t.Context(), issued.Values["token"], func(status int) bool { return status == http.StatusUnauthorized }); err != nil {
				t.Fatal(err)
			}
			mark := strings.ToLower(string(id[len(id)-8:]))
			if err := s.Must(t.Context(), http.MethodPut, configmaps+"/page", json.RawMessage(
				`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"page"},"data":{"title":"`+mark+`"}}`), nil); err != nil {
				t.Fatal(err)
			}
			if !s.within(time.Minute, func() bool { return strings.Contains(events(), mark) }) {
				t.Errorf("the watch ended with its lease; the page and Terms say that it goes on")
			}
		})
	}
	for _, block := range every {
		if terms := s.Terms(s.order(block)); !strings.Contains(terms.Remains, "a watch, log or exec that is open") || !terms.Revocable {
			t.Errorf("terms are %+v", terms)
		}
	}
}

// watch opens one, and returns what it has shown so far.
func (s *scene) watch(t *testing.T, issued backend.Issued) func() string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+configmaps+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+issued.Values["token"].Reveal())
	resp, err := s.HTTP.Do(req) //nolint:bodyclose // closed by who reads it
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("watching is answered %d", resp.StatusCode)
	}
	var mu sync.Mutex
	var all strings.Builder
	go func() {
		defer func() { _ = resp.Body.Close() }()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			mu.Lock()
			all.WriteString(lines.Text())
			mu.Unlock()
		}
	}()
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// Sixty leases of all forms, ended eight at a time, half of them without a handle.
func TestRevocationsLeaveNothing(t *testing.T) {
	s := stage(t)
	type lease struct {
		id     backend.LeaseID
		handle secret.String
	}
	leases := make(chan lease, 60)
	for range 15 {
		for _, block := range every {
			id, issued := s.issue(block)
			one := lease{id: id}
			if len(leases)%2 == 0 {
				one.handle = issued.Handle
			}
			leases <- one
		}
	}
	close(leases)
	if all, err := s.left(t.Context()); err != nil || len(all) < 120 {
		t.Fatalf("%d objects are there (%v)", len(all), err)
	}
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for one := range leases {
				if err := s.Revoke(t.Context(), one.id, one.handle); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	s.nothingLeft("")
}

// Whatever answer is lost, and wherever the exchange ends: its lease's id is enough.
func TestNoLostAnswerLeavesAnything(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		for nth := range map[string]int{"rules": 4, "role": 3, "cluster role": 3, "service account": 2}[name] {
			for cut, lose := range map[string]func(*line, int){"answer": loseNth, "line": cutFrom} {
				t.Run(fmt.Sprintf("%s, %s %d", name, cut, nth), func(t *testing.T) {
					s.line.set(func() { s.line.lose, s.line.down = nil, false })
					lose(s.line, nth)
					o := s.order(block)
					issued, err := s.Issue(t.Context(), o)
					s.line.set(func() { s.line.lose, s.line.down = nil, false })
					if !errors.Is(err, backend.ErrUnavailable) || len(issued.Values) > 0 {
						t.Fatalf("it ended with %v and %v", issued.Values, err)
					}
					// On a broken line what was not sent cannot come late, and a handle may be used at once.
					if want := cut == "line" && !errors.Is(err, backend.ErrNotCreated); want == issued.Handle.Empty() {
						t.Errorf("the handle is there: %t; %v", !issued.Handle.Empty(), err)
					}
					if errors.Is(err, backend.ErrNotCreated) {
						s.nothingLeft(o.Lease)
					}
					for range 2 {
						if err := s.Revoke(t.Context(), o.Lease, secret.String{}); err != nil {
							t.Fatal(err)
						}
						s.nothingLeft(o.Lease)
					}
				})
			}
		}
	}
}

// loseNth loses the answer to the nth creation from now on, which is carried out.
func loseNth(l *line, nth int) {
	l.set(func() {
		l.lose = func(r *http.Request) bool {
			nth--
			return r.Method == http.MethodPost && nth < 0
		}
	})
}

// cutFrom loses the answer to the nth creation, and breaks the line for good.
func cutFrom(l *line, nth int) {
	l.set(func() {
		l.lose = func(*http.Request) bool {
			if nth--; nth < 0 {
				l.down = true
			}
			return nth < 0
		}
	})
}

// Whatever answer to a deletion is lost, asking again ends it.
func TestRevocationsThatAreCutOffAreFinished(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		for nth := range map[string]int{"rules": 6, "role": 4, "cluster role": 4, "service account": 2}[name] {
			id, issued := s.issue(block)
			cutFrom(s.line, nth)
			err := s.Revoke(t.Context(), id, issued.Handle)
			s.line.set(func() { s.line.lose, s.line.down = nil, false })
			if !errors.Is(err, backend.ErrUnavailable) {
				t.Errorf("%s, answer %d: %v", name, nth, err)
			}
			if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
				t.Errorf("%s, answer %d, then: %v", name, nth, err)
			}
			s.nothingLeft(id)
		}
	}
}

// A revocation that comes while a creation is under way: whatever is made after it belongs
// to no service account that is there, or is ended by the next one. A creation that it
// overtook gets no token of what is gone.
func TestARevocationThatOvertakesACreation(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		for nth := range map[string]int{"rules": 4, "role": 3, "cluster role": 3, "service account": 2}[name] {
			o := s.order(block)
			overtaken := s.open(func(op *kubernetes.Options) {
				op.Transport = &overtaking{line: s.line, nth: nth, revoke: func() error {
					return s.Revoke(context.WithoutCancel(t.Context()), o.Lease, secret.String{})
				}}
			})
			issued, err := overtaken.Issue(t.Context(), o)
			last := nth == map[string]int{"rules": 3, "role": 2, "cluster role": 2, "service account": 1}[name]
			if last && err == nil {
				t.Errorf("%s: a token was made of what was revoked", name)
			}
			if err == nil && name != "service account" && nth > 0 && s.get(issued, configmaps) == http.StatusOK {
				t.Errorf("%s, before %d: the token works without all of its objects", name, nth)
			}
			if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
				t.Errorf("%s, before %d: %v", name, nth, err)
			}
			s.nothingLeft(o.Lease)
		}
	}
}

// overtaking revokes before the nth request.
type overtaking struct {
	*line
	nth    int
	revoke func() error
}

func (o *overtaking) RoundTrip(r *http.Request) (*http.Response, error) {
	if o.nth == 0 {
		if err := o.revoke(); err != nil {
			return nil, err
		}
	}
	o.nth--
	return o.line.RoundTrip(r)
}

// Somebody keeps an object from being deleted: then the lease is not over.
func TestWhatIsHeldIsNotCalledGone(t *testing.T) {
	s := stage(t)
	for name, path := range map[string]string{
		"service account": "/api/v1/namespaces/web/secrets/", "role": "/api/v1/namespaces/stepkey-leases/serviceaccounts/",
		"cluster role": "/apis/rbac.authorization.k8s.io/v1/namespaces/web/rolebindings/", "rules": "/apis/rbac.authorization.k8s.io/v1/namespaces/web/roles/",
	} {
		id, issued := s.issue(every[name])
		s.hold(t, path+nameOf(id), `["example.com/held"]`)
		err := s.Revoke(t.Context(), id, issued.Handle)
		if err == nil || !strings.Contains(err.Error(), "metadata.finalizers") || errors.Is(err, backend.ErrLost) {
			t.Errorf("%s: while it is held: %v", name, err)
		}
		s.hold(t, path+nameOf(id), `null`)
		if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
			t.Errorf("%s: then: %v", name, err)
		}
		s.nothingLeft(id)
	}
}

func (s *scene) hold(t *testing.T, path, finalizers string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.URL+path, strings.NewReader(`{"metadata":{"finalizers":`+finalizers+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Admin)
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("patching %s is answered %d", path, resp.StatusCode)
	}
}

// A cluster that has nothing of a lease proves nothing if it is another.
func TestAnotherClusterProvesNothing(t *testing.T) {
	s := stage(t)
	id, issued := s.issue(every["role"])
	if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
		t.Fatal(err)
	}
	elsewhere := secret.New(strings.ReplaceAll(issued.Handle.Reveal(), s.URL, "https://former.example.com"))
	if err := s.Revoke(t.Context(), id, elsewhere); err == nil || !strings.Contains(err.Error(), "configure the former") {
		t.Errorf("it says %v", err)
	}
	another := secret.New(strings.ReplaceAll(elsewhere.Reveal(), nameOf(id), "stepkey-lease-another"))
	if err := s.Revoke(t.Context(), id, another); err != nil {
		t.Errorf("with another lease's handle: %v", err)
	}
	if err := s.Revoke(t.Context(), id, secret.New("no handle")); err != nil {
		t.Errorf("with a handle that cannot be read: %v", err)
	}
	if err := s.Revoke(t.Context(), "../../secrets/database", secret.String{}); err != nil {
		t.Errorf("for an id that no lease has: %v", err)
	}
}

// Where the objects are, the handle knows, whatever the configuration says meanwhile.
func TestAChangedConfigurationStillEndsWhatWasMade(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		id, issued := s.issue(block)
		changed := s.open(func(o *kubernetes.Options) {
			o.Limits = kubernetes.Limits{Accounts: "moved", Namespaces: map[string]kubernetes.Namespace{"shop": {Rules: true}}}
		})
		if err := changed.Revoke(t.Context(), id, issued.Handle); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.nothingLeft(id)
	}
}
