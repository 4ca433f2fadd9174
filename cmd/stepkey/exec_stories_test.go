package main

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stepkey/stepkey/exchange/client"
)

// living are the credentials that an exchange gave and did not take back: lease tokens
// with the moment at which it ends them by itself.
type living struct {
	mu     sync.Mutex
	leases map[string]time.Time
}

// given takes note of what an answer gives. An answer that is lost on the way, or that is
// no answer of an exchange's, may have given the usual credential all the same.
func (l *living) given(s scripted) {
	body := s.body
	switch {
	case s.special != "", s.status == 0:
		body = standardGrant
	case s.status != http.StatusOK:
		return
	}
	var grant client.TokenResponse
	if json.Unmarshal([]byte(body), &grant) != nil {
		if json.Unmarshal([]byte(standardGrant), &grant) != nil {
			panic("the standard grant cannot be read")
		}
	}
	ends, err := time.Parse(time.RFC3339, grant.Lease.EndsAt)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leases == nil {
		l.leases = map[string]time.Time{}
	}
	l.leases[grant.Lease.Token] = ends
}

// takenBack takes note of an end: of the lease with that token, or else of all. An answer
// that is lost, or that says no, ended nothing.
func (l *living) takenBack(s scripted, token string) {
	if s.special != "" || (s.status != 0 && s.status != http.StatusOK) || strings.Contains(s.body, `"revoking"`) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for held := range l.leases {
		if token == "" || token == held {
			delete(l.leases, held)
		}
	}
}

// at are those that live at that moment.
func (l *living) at(now time.Time) (tokens []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token, ends := range l.leases {
		if ends.After(now) {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)
	return tokens
}

// livingCommand asks the exchange which credentials live, now or at a moment:
//
//	living none [TIME]     fails if there is one
//	living TOKEN [TIME]    fails unless there is that one, by its lease token
func livingCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: living none|TOKEN [TIME]")
	}
	at := ts.Getenv("NOW")
	if len(args) == 2 {
		at = args[1]
	}
	now, err := time.Parse(time.RFC3339, at)
	ts.Check(err)
	got := world(ts).living.at(now)
	if args[0] == "none" && len(got) > 0 || args[0] != "none" && !slices.Contains(got, args[0]) {
		ts.Fatalf("what lives is %q, not %s", got, args[0])
	}
}

// untilCommand waits until a file is there: what a command in the background wrote when
// it got that far.
func untilCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: until FILE")
	}
	tick, late := time.NewTicker(2*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("%s did not come", args[0])
		}
	}
}

// memoryCommand makes a user's own folder in memory, if this machine has any, and names it
// in XDG_RUNTIME_DIR.
func memoryCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: memory")
	}
	place := "/dev/shm"
	if !inMemory(place) {
		place = ts.MkAbs(".")
	}
	own, err := os.MkdirTemp(place, "story-")
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(own) })
	ts.Setenv("XDG_RUNTIME_DIR", own)
}
