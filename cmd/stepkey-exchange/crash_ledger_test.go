package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// ledger is what one look has found: the store's word and GitHub's.
type ledger struct {
	states map[string]lease.State // by lease
	jobOf  map[string]string      // lease -> job, in words
	named  map[string]string      // hash of a credential -> its lease, once active
	active map[string]bool        // leases that became active, with the handle sealed
	kept   map[string]bool        // leases that did not, and whose handle was sealed all the same
	held   map[string]lease.Lease // what is not final
	live   []githubsim.TokenInfo  // at GitHub
	// outside is what lives at another outside system, by lease, in words.
	outside map[string]string
}

func (l ledger) String() string {
	var text strings.Builder
	for id, state := range l.states {
		fmt.Fprintf(&text, "%s is %s (%s), due to end %s\n", id, state, l.jobOf[id], l.held[id].EndsAt)
	}
	fmt.Fprintf(&text, "%d tokens live %v", len(l.live), l.outside)
	return text.String()
}

func final(e audit.Entry) bool { return lease.State(e.Event).Final() }

// look holds the store against GitHub, at any moment, and reports whether everything is
// over: final, or unconfirmed and only to be waited for.
//
// Neither side stands still while it looks. So what must be true for good is read from
// the store before GitHub is asked; what may pass is asked of GitHub before and after.
func (r *crashRun) look() bool {
	if r.outside != nil {
		return r.lookOutside()
	}
	given := r.givenSoFar()
	before := r.liveTokens()
	first := r.entries()
	held := r.heldNow()
	last := r.entries()
	after := r.liveTokens()

	r.ledger = newLedger(last, held)
	for _, token := range after {
		if slices.ContainsFunc(before, func(b githubsim.TokenInfo) bool { return b.Hash == token.Hash }) {
			r.ledger.live = append(r.ledger.live, token)
		}
	}
	r.endedIsGone(first, after)
	r.nothingIsLost(first)
	r.endedStaysEnded(last)
	r.liveIsHeld()
	for hash, id := range given {
		if r.ledger.named[hash] != id {
			r.t.Errorf("a credential was handed out for %s, and the store does not know it", id)
		}
	}
	return r.ledger.over()
}

func newLedger(entries []audit.Entry, held map[string]lease.Lease) ledger {
	l := ledger{states: map[string]lease.State{}, jobOf: map[string]string{}, named: map[string]string{}, active: map[string]bool{}, kept: map[string]bool{}, held: held}
	for _, e := range entries {
		switch {
		case e.Lease == "":
			continue
		case e.Event == audit.Active:
			l.named[e.Credential] = e.Lease
			l.active[e.Lease] = true
		case e.Event == audit.Revoking && e.Reason == lease.ByNoRecord:
			l.kept[e.Lease] = true
		}
		l.jobOf[e.Lease] = e.Job
		if final(e) || l.states[e.Lease] == "" {
			l.states[e.Lease] = lease.State(e.Event)
		}
	}
	for id, h := range held {
		l.states[id] = h.State
	}
	return l
}

func (l ledger) over() bool {
	for id, state := range l.states {
		if !state.Final() && (state != lease.Unconfirmed || l.kept[id]) {
			return false
		}
	}
	return true
}

// endedIsGone: the credential of a lease that is over is no more, from then on.
func (r *crashRun) endedIsGone(entries []audit.Entry, live []githubsim.TokenInfo) {
	over := map[string]audit.Event{}
	for _, e := range entries {
		if final(e) {
			over[e.Lease] = e.Event
		}
	}
	for _, token := range live {
		if id := r.ledger.named[token.Hash]; over[id] != "" {
			r.t.Errorf("%s is %s, and its credential lives", id, over[id])
		}
	}
}

// endedStaysEnded: a lease that somebody has begun to end never becomes active after it.
func (r *crashRun) endedStaysEnded(entries []audit.Entry) {
	ending := map[string]bool{}
	for _, e := range entries {
		ending[e.Lease] = ending[e.Lease] || e.Event == audit.Revoking
		if e.Event == audit.Active && ending[e.Lease] {
			r.t.Errorf("%s became active after its end had begun", e.Lease)
		}
	}
}

// nothingIsLost: each lease that was ever begun is still held, or over.
func (r *crashRun) nothingIsLost(begun []audit.Entry) {
	for _, e := range begun {
		if _, held := r.ledger.held[e.Lease]; e.Lease != "" && !held && !r.ledger.states[e.Lease].Final() {
			r.t.Errorf("%s was %s and is nowhere any more", e.Lease, e.Event)
		}
	}
}

// liveIsHeld: each live credential belongs to a lease that can end it, or, where its
// name was lost, to one that is counted and says for how long. An active lease's
// credential is named by the audit log; the others can only be counted.
func (r *crashRun) liveIsHeld() {
	var nameless []githubsim.TokenInfo
	for _, token := range r.ledger.live {
		id := r.ledger.named[token.Hash]
		h, held := r.ledger.held[id]
		switch {
		case id == "":
			nameless = append(nameless, token)
		case held && h.DiesAt.Before(token.ExpiresAt):
			r.t.Errorf("%s says that it dies at %s; its credential does at %s", id, h.DiesAt, token.ExpiresAt)
		}
	}
	var covers []lease.Lease
	for id, h := range r.ledger.held {
		switch {
		case r.ledger.active[id] && h.State == lease.Unconfirmed:
			r.t.Errorf("%s is given up, and how to end it is in the store", id)
		case !r.ledger.active[id] && (h.State == lease.Pending || h.State == lease.Unconfirmed):
			covers = append(covers, h)
		}
	}
	slices.SortFunc(nameless, func(a, b githubsim.TokenInfo) int { return b.ExpiresAt.Compare(a.ExpiresAt) })
	slices.SortFunc(covers, func(a, b lease.Lease) int { return b.DiesAt.Compare(a.DiesAt) })
	for n, token := range nameless {
		if n >= len(covers) || covers[n].DiesAt.Before(token.ExpiresAt) {
			r.t.Errorf("%d credentials without a name live, and %d leases stand for them, or not for long enough", len(nameless), len(covers))
			return
		}
	}
}

// usedStaysUsed asks once more with every subject token, at the end: it is used up
// unless its lease has failed, or was never begun.
func (r *crashRun) usedStaysUsed(p *process) {
	for _, j := range r.jobs {
		if r.point.goes == tripwire && j.holder != nil {
			continue // gets nothing any more
		}
		used := r.used(j)
		grant, err := r.exchangeAgain(j, p)
		says := err != nil && strings.Contains(err.Error(), "exchanged before")
		switch {
		case used && err == nil:
			r.t.Errorf("the subject token of %s was taken a second time", j.name)
		case used && !says:
			r.t.Errorf("the used subject token of %s is refused for another reason: %v", j.name, err)
		case !used && says:
			r.t.Errorf("the subject token of %s came to nothing, and is not taken again", j.name)
		}
		if err != nil {
			continue
		}
		r.note(grant)
		if _, err := p.client.Revoke(r.t.Context(), grant.LeaseToken); err != nil {
			r.t.Errorf("giving it back: %v", err)
		}
	}
}

// exchangeAgain asks until the exchange has found its store again. Each time that it has not,
// it has dropped one of the connections that a fallen database left behind.
func (r *crashRun) exchangeAgain(j *crashJob, p *process) (grant *client.Grant, err error) {
	const connections = 16
	for range connections + 1 {
		grant, err = j.exchange(r.t.Context(), p)
		if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Status != http.StatusServiceUnavailable || !strings.Contains(refused.Description, "cannot write down") {
			break
		}
	}
	return grant, err
}

// used: a lease was begun with the job's subject token, and has not failed.
func (r *crashRun) used(j *crashJob) bool {
	var leases []string
	for id, name := range r.outcome.jobOf {
		if name == j.name {
			leases = append(leases, id)
		}
	}
	slices.Sort(leases) // by time
	return len(leases) > j.nth && r.outcome.states[leases[j.nth]] != lease.Failed
}

func (r *crashRun) entries() []audit.Entry {
	var all []audit.Entry
	r.read(func() (err error) {
		all, err = r.reader.Audit(r.t.Context(), lease.AuditQuery{Limit: 1 << 20})
		return err
	})
	return all
}

func (r *crashRun) heldNow() map[string]lease.Lease {
	held := map[string]lease.Lease{}
	for _, j := range r.jobs {
		var all []lease.Lease
		r.read(func() (err error) {
			all, err = r.reader.LivesOfJob(r.t.Context(), j.key)
			return err
		})
		for _, l := range all {
			held[string(l.ID)] = l
		}
	}
	return held
}

func (r *crashRun) liveTokens() []githubsim.TokenInfo {
	return slices.DeleteFunc(r.world.gh.LiveTokens(), func(i githubsim.TokenInfo) bool { return i.InstallationID != r.installation })
}
