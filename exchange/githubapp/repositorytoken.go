package githubapp

import (
	"context"
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
	// share is what is left to tasks. An answer that we still have is asked for all the
	// same, since an unchanged one costs nothing. nil: what is read is itself what a task
	// needs.
	share *share

	// turn holds one element while somebody uses what is below. It is held while a token
	// is made, so that many who wait make one, and waiting for it ends with a context.
	turn chan struct{}
	held held
}

// held is a token with what belongs to it.
type held struct {
	token        Token
	made         time.Time
	installation int64 // stays when the token is gone
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
	h, err := r.hold(ctx, doing)
	if err != nil {
		return err
	}
	young := r.app.now().Before(h.made.Add(tokenSettles))
	again := func(e *Error) bool { return e.Temporary() || young && e.unsettled() }
	c := ask(h.token.Repositories[0].FullName)
	if r.share != nil && c.etag == "" {
		if err := r.share.spent(doing, h.installation); err != nil {
			return err
		}
	}
	err = r.app.do(ctx, again, func() *Error {
		return r.app.once(ctx, r.app.Client(h.token.Value), r.watched(h, ask(h.token.Repositories[0].FullName)))
	})
	if e := of(err); e != nil {
		r.learn(ctx, h, young, e)
	}
	return err
}

// watched is c that also tells how much is left.
func (r *repositoryToken) watched(h held, c call) call {
	if r.share == nil {
		return c
	}
	seen := c.seen
	c.seen = func(resp *http.Response) {
		r.share.see(h.installation, resp)
		if seen != nil {
			seen(resp)
		}
	}
	return c
}

// learn draws what follows from a refusal for those who ask next.
func (r *repositoryToken) learn(ctx context.Context, h held, young bool, e *Error) {
	if !e.RetryAt.IsZero() {
		r.app.asked.note(h.installation, e.RetryAt)
		return
	}
	switch {
	case young:
	case e.Status == http.StatusUnauthorized:
		r.bury(ctx, h)
	case e.Status == http.StatusMovedPermanently || e.Status == http.StatusNotFound:
		r.retire(ctx, h)
	}
}

// bury forgets a token that GitHub does not know any more. It is not revoked: that takes
// seconds, and it is dead.
func (r *repositoryToken) bury(ctx context.Context, h held) {
	if !r.take(ctx) {
		return
	}
	defer r.give()
	if r.held.token.Value == h.token.Value {
		r.held.token = Token{}
	}
}

// retire revokes a token whose repository may have another name now, which comes with a
// new one.
func (r *repositoryToken) retire(ctx context.Context, h held) {
	if !r.take(ctx) {
		return
	}
	defer r.give()
	if r.held.token.Value == h.token.Value {
		_ = r.drop(ctx)
	}
}

// close revokes the token, if there is one, as soon as nobody uses it.
func (r *repositoryToken) close(ctx context.Context) error {
	if !r.take(ctx) {
		return context.Cause(ctx)
	}
	defer r.give()
	return r.drop(ctx)
}

// hold returns a token that is good for a while.
func (r *repositoryToken) hold(ctx context.Context, doing string) (held, error) {
	if !r.take(ctx) {
		return held{}, &Error{Doing: doing, cause: context.Cause(ctx)}
	}
	defer r.give()
	if err := r.app.leftAlone(doing, r.held.installation); err != nil {
		return held{}, err
	}
	if r.app.now().Before(r.held.token.ExpiresAt.Add(-tokenReserve)) {
		return r.held, nil
	}
	_ = r.drop(ctx) // it is nearly over; what is left of it dies by itself
	err := r.renew(ctx, doing)
	return r.held, err
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
	if err := r.app.leftAlone(doing, i.ID); err != nil {
		return err
	}
	if first := r.held.made.IsZero(); first && r.share != nil { // what is read with a first one is never free
		if err := r.share.spent(doing, i.ID); err != nil {
			return err
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
	r.held = held{t, r.app.now(), i.ID}
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
	value := r.held.token.Value
	r.held.token = Token{}
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
	return !r.held.made.IsZero() && !r.app.now().Before(r.held.token.ExpiresAt)
}

// part names one permission over one repository, by its id or as owner/name.
func part(permission string, repository any) string { return fmt.Sprint(permission, " ", repository) }
