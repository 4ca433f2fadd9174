package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	maxValues = 16
	maxValue  = 64 << 10 // bytes
	maxHandle = 16 << 10 // bytes
)

var (
	valueName   = regexp.MustCompile(`\A[a-z][a-z0-9_]{0,62}\z`)
	environment = regexp.MustCompile(`\A[A-Z_][A-Z0-9_]{0,126}\z`)
)

// Issue runs the scope's program. An answer that does not fit the order is no
// credential: what it may be of is revoked at once where the program can. The handle
// stands beside every error that leaves open whether something exists.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	p := b.of(want)
	switch now := b.now(); {
	case !ours || want == nil:
		return backend.Issued{}, fmt.Errorf("asking a program for a credential: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	case p == nil || p.retired:
		return backend.Issued{}, fmt.Errorf("asking the program %s: the configuration does not have it, or has it as retired: %w", want.program, backend.ErrNotCreated)
	case !now.Before(o.Until), p.life > 0 && !now.Before(o.At.Add(inFlight)):
		return backend.Issued{}, fmt.Errorf("asking the program %s: the order is from %s, so a credential made now would outlive what was promised: %w",
			p.name, o.At.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	if p.life > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.At.Add(inFlight).Sub(b.now()))
		defer cancel()
	}
	issued, err := b.issue(ctx, p, o, want)
	if err != nil {
		return issued, fmt.Errorf("asking the program %s: %w", p.name, err)
	}
	return issued, nil
}

func (b *Backend) issue(ctx context.Context, p *program, o backend.Order, want *scope) (backend.Issued, error) {
	latest := p.terms(o).DiesAt
	at, until, by := o.At.UTC(), o.Until.UTC(), latest.UTC()
	said, err := p.ask(ctx, p.issuing, request{
		Verb: issueVerb, Lease: string(o.Lease), Parameters: want.written(), At: &at, Until: &until, DiesBy: &by, For: o.For,
	})
	way := backend.Issued{Handle: seal(p.name, o.Lease, said.Handle)}
	switch {
	case errors.Is(err, errNotRun):
		return backend.Issued{}, fmt.Errorf("%w; %w", unavailable(err), backend.ErrNotCreated)
	case err != nil:
		return way, fmt.Errorf("%w; it may have made a credential", unavailable(err))
	case said.Error != nil:
		return said.failed(way)
	}
	issued, why := b.judge(said, want, p, latest)
	if why != nil {
		return p.withdraw(ctx, o.Lease, way, why)
	}
	issued.Handle = way.Handle
	return issued, nil
}

// failed turns a program's own word about a failure into the backend's terms. One that
// contradicts itself has proven nothing.
func (a answer) failed(way backend.Issued) (backend.Issued, error) {
	err := errors.New(a.Error.words(a.secrets()...))
	if a.Error.Unavailable {
		err = fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
	}
	switch {
	case a.Error.Lost && !a.Error.NotCreated:
		return way, fmt.Errorf("%w; %w", err, backend.ErrLost)
	case a.Error.NotCreated && !a.Error.Lost && len(a.Values) == 0 && a.Handle == "":
		return backend.Issued{}, fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
	}
	return way, fmt.Errorf("%w; it may have made a credential", err)
}

// secrets are the handle and every value that is not said to be public.
func (a answer) secrets() []string {
	all, public := []string{a.Handle}, map[string]bool{}
	for _, name := range a.Public {
		public[name] = true
	}
	for name, value := range a.Values {
		if !public[name] {
			all = append(all, value)
		}
	}
	return all
}

// judge holds an answer against the order: well formed, not more, not longer.
func (b *Backend) judge(a answer, want *scope, p *program, latest time.Time) (backend.Issued, error) {
	if err := a.wellFormed(); err != nil {
		return backend.Issued{}, err
	}
	granted, dies := want, latest
	if a.Granted != nil {
		read, ok := want.granted(a.Granted)
		switch {
		case !ok || !p.fits(read):
			return backend.Issued{}, errors.New("it says that it granted what its parameters cannot be")
		case !want.Covers(read):
			return backend.Issued{}, fmt.Errorf("it says that it granted something else than was asked: %s", read)
		}
		granted = read
	}
	if a.DiesAt != nil {
		dies = *a.DiesAt
	}
	if dies.After(latest) || !dies.After(b.now()) {
		return backend.Issued{}, fmt.Errorf("its credential would die at %s, and it should live now and be gone by %s",
			dies.UTC().Format(time.RFC3339), latest.UTC().Format(time.RFC3339))
	}
	issued := backend.Issued{Values: map[string]secret.String{}, Env: a.Env, Public: a.Public, Granted: granted, DiesAt: dies}
	for name, value := range a.Values {
		issued.Values[name] = secret.New(value)
	}
	return issued, nil
}

// wellFormed quotes nothing: a name that is none may be the secret in the wrong place.
func (a answer) wellFormed() error {
	if len(a.Values) == 0 || len(a.Values) > maxValues || a.Gone != nil || len(a.Handle) > maxHandle {
		return fmt.Errorf("its answer has no values, more than %d of them, a handle of more than %d bytes, or what belongs to another verb", maxValues, maxHandle)
	}
	for name, value := range a.Values {
		if !valueName.MatchString(name) || value == "" || len(value) > maxValue || strings.ContainsRune(value, 0) {
			return fmt.Errorf("a value in its answer is empty, longer than %d bytes or holds a zero byte, or its name is not of a-z, 0-9 and _", maxValue)
		}
	}
	for name, value := range a.Env {
		if _, there := a.Values[value]; !there || !environment.MatchString(name) {
			return errors.New("env in its answer names a value that it does not have, or a variable that is not of A-Z, 0-9 and _")
		}
	}
	return a.publicFits()
}

// publicFits: each name is a value's, none is there twice, and no secret is public by
// another name.
func (a answer) publicFits() error {
	open := map[string]bool{}
	for n, name := range a.Public {
		value, there := a.Values[name]
		if !there || slices.Contains(a.Public[:n], name) {
			return errors.New("public in its answer names a value that it does not have, or one twice")
		}
		open[value] = true
	}
	for name, value := range a.Values {
		if open[value] && !slices.Contains(a.Public, name) {
			return errors.New("a value in its answer is public by one name and a secret by another")
		}
	}
	return nil
}

// fits: every parameter is one of the program's, in its form.
func (p *program) fits(s *scope) bool {
	for name, v := range s.parameters {
		f, known := p.forms[name]
		if !known || f.list != v.list || v.list && (len(v.texts) == 0 || len(v.texts) > f.most) {
			return false
		}
		for _, text := range v.texts {
			if f.badText(text) != "" {
				return false
			}
		}
	}
	return true
}

// withdraw ends what may not be handed out, also when the request that wanted it is over. It
// takes no longer than any end: the handle goes back beside the error, and the keeper goes on.
func (p *program) withdraw(ctx context.Context, lease backend.LeaseID, way backend.Issued, why error) (backend.Issued, error) {
	if !p.revocable {
		return way, fmt.Errorf("%w; it may have made a credential, and cannot revoke one", why)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxTimeout)
	defer cancel()
	if err := p.end(ctx, lease, way.Handle); err != nil {
		return way, fmt.Errorf("%w; it could not be revoked: %w", why, err)
	}
	return backend.Issued{}, fmt.Errorf("%w; it was revoked at once: %w", why, backend.ErrNotCreated)
}

// sealed is the way back. The lease in it makes no two of them alike.
type sealed struct {
	Program string `json:"program"`
	Lease   string `json:"lease"`
	Handle  string `json:"handle,omitempty"` // the program's own
}

func seal(program string, lease backend.LeaseID, handle string) secret.String {
	text, err := json.Marshal(sealed{program, string(lease), handle})
	if err != nil {
		return secret.String{} // three texts can always be written
	}
	return secret.New(string(text))
}
