package exchange

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

// A Step is one step of a job, as its CI system shows it. Views lag behind the job, and
// their times may be cut off to whole seconds.
type Step struct {
	Number             int // from 1, in the order in which steps begin; there may be gaps
	Name               string
	Begun, Over        bool
	Skipped            bool      // it never ran
	Started, Completed time.Time // zero where unknown
}

// sighting is what one view of a job's steps says of one lease.
type sighting struct {
	tie  Step   // the step that ends it, Number 0 while that is not to be told
	over bool   // that step is over, and so is the next where the lease waits for it
	job  string // why it ends with its job after all; empty where it does not
}

// sight says from one view which step ends a lease, and whether that is over. Pure.
//
// No step is named in a subject token, so times decide: at Created, the step that asked
// was waiting for us. Views lag behind, and cut seconds off. All that is unsure is
// decided for the later step, since a credential that ends with the wrong step too
// early breaks an honest job, and one that ends late still ends:
//
//   - A step can have asked if it began by Created, and is not over or was over in a
//     later second. What was over in the very second may have been over before Created.
//   - If none can have, the one that asked was over in that second or does not show yet.
//     Once a step shows that began in a later second, the one before it has asked, and
//     that step is taken in place of it.
//   - A view older than Created shows a step that was over before. It shows as not over,
//     so it ends nothing, and a newer view says when it was over. So each view is judged
//     anew; see follow for one that is older than the last.
//   - Where steps run side by side, nobody can tell which of them asked or which uses
//     what was handed over: the lease then ends with its job.
//
// It takes the clock of the runner and ours to agree; a runner that is ahead of us by
// more than its step took to ask can end a lease one step early.
func sight(l Lease, steps []Step) sighting {
	ran := inOrder(steps)
	i := asker(ran, l.Created)
	if i < 0 || slices.ContainsFunc(ran, Step.halfShown) {
		return sighting{}
	}
	last := i
	if l.Until == policy.UntilStep {
		last++
	}
	for _, mine := range []int{i, last} {
		if other := beside(ran, mine); other >= 0 {
			first, second := ran[min(mine, other)], ran[max(mine, other)]
			return sighting{job: fmt.Sprintf("steps %s and %s ran side by side", first, second)}
		}
	}
	return sighting{tie: ran[i], over: ran[i].Over && last < len(ran) && ran[last].Over}
}

// inOrder leaves out steps that used nothing: skipped, or over without having begun.
func inOrder(steps []Step) []Step {
	ran := slices.DeleteFunc(slices.Clone(steps), func(s Step) bool {
		return s.Number < 1 || s.Skipped || s.Over && s.Started.IsZero()
	})
	slices.SortStableFunc(ran, func(a, b Step) int { return cmp.Compare(a.Number, b.Number) })
	return ran
}

// asker is the place of the step that asked at the moment, or of the one after it; -1
// where that is not to be told.
func asker(ran []Step, moment time.Time) int {
	at := moment.Unix()
	asked := func(s Step) bool { return s.Begun && s.began() <= at && s.ended() > at }
	later := func(s Step) bool { return s.Begun && s.began() > at }
	if i := slices.IndexFunc(ran, asked); i >= 0 {
		return i
	}
	return slices.IndexFunc(ran, later)
}

// beside is the place of a step that ran beside the one at i, -1 for none. Steps that
// take turns are over when the next begins.
func beside(ran []Step, i int) int {
	if i >= len(ran) || !ran[i].Begun {
		return -1
	}
	for j, other := range ran {
		if j != i && other.Begun && ran[min(i, j)].ended() > ran[max(i, j)].began() {
			return j
		}
	}
	return -1
}

// halfShown: a time is missing that there must be. Another view will have it.
func (s Step) halfShown() bool {
	return s.Begun && s.Started.IsZero() || s.Over && s.Completed.IsZero()
}

// began and ended are in whole seconds since 1970.
func (s Step) began() int64 { return s.Started.Unix() }

func (s Step) ended() int64 {
	if !s.Over {
		return math.MaxInt64
	}
	return s.Completed.Unix()
}

const maxStepName = 80 // characters; names of steps are the workflow's, and as long as it likes

// String is for the audit log.
func (s Step) String() string {
	name := []rune(s.Name)
	if len(name) > maxStepName {
		name = append(name[:maxStepName], '…')
	}
	return fmt.Sprintf("%d %q", s.Number, string(name))
}

// follow holds a lease against a view of its job's steps, writes down what is new, and
// reports whether its step is over. A view that points to an earlier step than one
// before it is the older one.
func (x *Exchange) follow(ctx context.Context, l Lease, steps []Step) (bool, error) {
	if !l.EndsWithStep() {
		return false, nil
	}
	if l.JobID == "" {
		return false, x.Leases.Tie(ctx, l.ID, lease.FellBack, "ends with its job: the issuer does not name the single job, whose steps could be seen")
	}
	seen := sight(l, steps)
	switch {
	case seen.job != "":
		return false, x.Leases.Tie(ctx, l.ID, lease.FellBack, "ends with its job: "+seen.job)
	case seen.tie.Number == 0 || seen.tie.Number < l.Step:
		return false, nil
	case seen.tie.Number > l.Step:
		if err := x.Leases.Tie(ctx, l.ID, seen.tie.Number, tied(l, seen.tie)); err != nil {
			return false, err
		}
	}
	return seen.over, nil
}

func tied(l Lease, to Step) string {
	text := "tied to step " + to.String()
	if l.Until == policy.UntilStep {
		text += " and the one after it"
	}
	if l.Step > 0 {
		text += fmt.Sprintf(", no longer to step %d", l.Step)
	}
	return text
}
