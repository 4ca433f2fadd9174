package githubapp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// repositoryToken is a token of the App's own that can read one part of one repository.
// It is made when it is first needed and used until shortly before it expires.
type repositoryToken struct {
	app  *App
	want TokenRequest // of one repository, with one permission
	find func(context.Context) (Installation, error)

	// turn holds one element while somebody uses what is below. It is held while a token
	// is made, so that many who wait make one, and waiting for it ends with a context.
	turn  chan struct{}
	token Token
	made  time.Time
	rest  time.Time // GitHub asked not to be asked before
}

func (a *App) repositoryToken(want TokenRequest, find func(context.Context) (Installation, error)) *repositoryToken {
	return &repositoryToken{app: a, want: want, find: find, turn: make(chan struct{}, 1)}
}

// take waits for the turn and reports whether it came before ctx ended.
func (r *repositoryToken) take(ctx context.Context) bool {
	select {
	case r.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *repositoryToken) give() { <-r.turn }

// read makes one request with the token, again and again while that may help. What is
// asked is told the repository's present name, owner/name.
func (r *repositoryToken) read(ctx context.Context, doing string, ask func(repository string) call) error {
	t, made, err := r.hold(ctx, doing)
	if err != nil {
		return err
	}
	young := r.app.now().Before(made.Add(tokenSettles))
	again := func(e *Error) bool { return e.Temporary() || young && e.unsettled() }
	err = r.app.do(ctx, again, func() *Error {
		return r.app.once(ctx, r.app.Client(t.Value), ask(t.Repositories[0].FullName))
	})
	if e := of(err); e != nil {
		r.learn(ctx, t, young, e)
	}
	return err
}

// learn draws what follows from a refusal for those who ask next.
func (r *repositoryToken) learn(ctx context.Context, t Token, young bool, e *Error) {
	if !r.take(ctx) {
		return
	}
	defer r.give()
	moved := e.Status == http.StatusMovedPermanently || e.Status == http.StatusNotFound
	switch {
	case !e.RetryAt.IsZero():
		r.rest = e.RetryAt
	case r.token.Value != t.Value:
	case e.Status == http.StatusUnauthorized && !young:
		r.token = Token{} // it is dead
	case moved && !young:
		_ = r.drop(ctx) // the repository may have another name now, which comes with a new token
	}
}

// hold returns a token that is good for a while, and when it was made.
func (r *repositoryToken) hold(ctx context.Context, doing string) (Token, time.Time, error) {
	if !r.take(ctx) {
		return Token{}, time.Time{}, &Error{Doing: doing, cause: context.Cause(ctx)}
	}
	defer r.give()
	now := r.app.now()
	switch {
	case now.Before(r.rest):
		return Token{}, time.Time{}, &Error{Doing: doing, RetryAt: r.rest, cause: errors.New("GitHub asked to be left alone until then")}
	case now.Before(r.token.ExpiresAt.Add(-tokenReserve)):
		return r.token, r.made, nil
	}
	_ = r.drop(ctx) // it is nearly over; what is left of it dies by itself
	err := r.renew(ctx, doing)
	return r.token, r.made, err
}

// renew makes another token. The caller has the turn.
func (r *repositoryToken) renew(ctx context.Context, doing string) error {
	i, err := r.find(ctx)
	if err != nil {
		return err
	}
	for name, level := range r.want.Permissions {
		if i.Permissions[name] == "" {
			r.app.Forget(i.ID) // so that it is seen when somebody gives the permission
			return refuse(doing, "the App's installation at %s lacks the permission %s: %s; give it to the App, and have its owners accept", clean(i.Account), name, level)
		}
	}
	// The caller's going away does not stop this: a token whose answer is lost cannot be
	// revoked by anybody.
	making, done := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer done()
	t, err := r.app.CreateToken(making, i.ID, r.want)
	if err != nil {
		return err
	}
	r.token, r.made = t, r.app.now()
	if !r.wanted(t) {
		_ = r.drop(ctx)
		return &Error{Doing: doing, Status: http.StatusCreated, Message: "the token is not for that one repository"}
	}
	return nil
}

// wanted reports whether the token is for the one repository that was asked for.
func (r *repositoryToken) wanted(t Token) bool {
	if len(t.Repositories) != 1 {
		return false
	}
	is := t.Repositories[0]
	owner, name, _ := strings.Cut(is.FullName, "/")
	named := ValidOwner(owner) && ValidRepository(name)
	if len(r.want.RepositoryIDs) == 1 {
		return named && is.ID == r.want.RepositoryIDs[0]
	}
	return named && strings.EqualFold(name, r.want.Repositories[0])
}

// drop revokes the token, if there is one. The caller has the turn.
func (r *repositoryToken) drop(ctx context.Context) error {
	value := r.token.Value
	r.token = Token{}
	if value.Empty() {
		return nil
	}
	return r.app.RevokeToken(ctx, value)
}

// over reports whether nothing is lost by forgetting it; false while it is in use, or
// about to be for the first time.
func (r *repositoryToken) over() bool {
	select {
	case r.turn <- struct{}{}:
	default:
		return false
	}
	defer r.give()
	now := r.app.now()
	return !r.made.IsZero() && !now.Before(r.token.ExpiresAt) && !now.Before(r.rest)
}

// part names one permission over one repository, by its id or as owner/name.
func part(permission string, repository any) string { return fmt.Sprint(permission, " ", repository) }
