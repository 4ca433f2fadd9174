package exchange

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/policy"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// after is noon and some seconds, shown is the same as CI shows it.
func after(seconds float64) time.Time {
	return noon.Add(time.Duration(seconds * float64(time.Second)))
}
func shown(t time.Time) time.Time { return t.Truncate(time.Second) }

func running(number int, from float64) Step {
	return Step{Number: number, Name: fmt.Sprint("step ", number), Begun: true, Started: shown(after(from))}
}

func done(number int, from, to float64) Step {
	s := running(number, from)
	s.Over, s.Completed = true, shown(after(to))
	return s
}

func skipped(number int, at float64) Step {
	s := done(number, at, at)
	s.Skipped = true
	return s
}

func waiting(number int) Step { return Step{Number: number} }

// sights are views of a job whose lease was created at 12:00:10.5, and what is to be
// seen in each: the step that ends it, 0 for none yet, and whether that is over with
// until this_step and with until step. -1 is its job.
var sights = []struct {
	name      string
	steps     []Step
	tie       int
	this, two bool
}{
	{"nothing is shown yet", nil, 0, false, false},
	{"nothing has begun", []Step{waiting(1), waiting(2)}, 0, false, false},
	{"one step is in progress", []Step{done(1, 0, 4), running(2, 4), waiting(3)}, 2, false, false},
	{"it began in the very second", []Step{done(1, 0, 10.1), running(2, 10.2)}, 2, false, false},
	{"it is over in a later second", []Step{done(2, 4, 11), running(3, 11)}, 2, true, false},
	{"it and the next are over", []Step{done(2, 4, 12), done(3, 12, 30), running(4, 30)}, 2, true, true},
	{"the next is not shown yet", []Step{done(2, 4, 12)}, 2, true, false},
	{"the next has not begun", []Step{done(2, 4, 12), waiting(3)}, 2, true, false},
	{"the next was skipped, and the one after it runs", []Step{done(2, 4, 12), skipped(3, 12), running(4, 12)}, 2, true, false},
	{"the next was skipped, and the one after it is over", []Step{done(2, 4, 12), skipped(3, 12), done(4, 12, 14)}, 2, true, true},
	{"the next is the job's last, after a gap", []Step{done(2, 4, 12), done(11, 12, 14)}, 2, true, true},
	{"steps in any order", []Step{running(4, 30), done(3, 12, 30), done(2, 4, 12)}, 2, true, true},

	{"a stale view shows the step before, in progress", []Step{running(1, 0), waiting(2)}, 1, false, false},
	{"and then that it was over before, so that it did not ask", []Step{done(1, 0, 9.9), running(2, 9.9)}, 2, false, false},
	{"the step before was over in the very second", []Step{done(1, 0, 10), running(2, 10.9)}, 2, false, false},
	{"all shown were over before", []Step{done(1, 0, 4), done(2, 4, 9)}, 0, false, false},

	{"the one that asked was over in the very second", []Step{done(1, 0, 4), done(2, 4, 10.9)}, 0, false, false},
	{"so that the next is taken, once it shows", []Step{done(2, 4, 10.9), running(3, 11)}, 3, false, false},
	{"and ends the lease late", []Step{done(2, 4, 10.9), done(3, 11, 12), done(4, 12, 13)}, 3, true, true},
	{"unless it began in the very second, too", []Step{done(2, 4, 10.6), running(3, 10.7)}, 3, false, false},
	{"several were over in the very second, and nobody knows whether more were", []Step{done(2, 4, 10.1), done(3, 10.2, 10.7)}, 0, false, false},
	{"several were over in the very second, and the next runs", []Step{done(2, 4, 10.1), done(3, 10.2, 10.7), running(4, 11)}, 4, false, false},
	{"skipped steps are never the one", []Step{done(2, 4, 10.9), skipped(3, 11), running(4, 11)}, 4, false, false},

	{"two in progress", []Step{running(1, 0), running(2, 4)}, -1, false, false},
	{"two that were in progress", []Step{done(1, 0, 30), done(2, 4, 31)}, -1, false, false},
	{"one in the background since before", []Step{running(1, 0), done(2, 4, 12), done(3, 12, 14)}, -1, false, false},
	{"one in the background that was over before", []Step{done(1, 0, 9), done(2, 1, 3), running(3, 9)}, 3, false, false},
	{"a time is missing", []Step{done(1, 0, 4), {Number: 2, Begun: true}, running(3, 5)}, 0, false, false},
	{"an end is missing", []Step{{Number: 1, Begun: true, Over: true, Started: after(0)}, running(2, 4)}, 0, false, false},
	{"over without having begun is like skipped", []Step{done(2, 4, 12), {Number: 3, Begun: true, Over: true}, running(4, 12)}, 2, true, false},
	{"a step without a number", []Step{done(0, 4, 12), {Begun: true, Over: true, Started: after(0), Completed: after(30)}}, 0, false, false},
}

func TestWhichStepEndsALease(t *testing.T) {
	for _, c := range sights {
		for until, over := range map[policy.Until]bool{policy.UntilThisStep: c.this, policy.UntilStep: c.two} {
			l := Lease{Until: until, Created: after(10.5)}
			got := sight(l, c.steps)
			bind := got.tie.Number
			if got.job != "" {
				bind = -1
			}
			if bind != c.tie || got.over != over {
				t.Errorf("%s, until %s: bound to %d, over %t; want %d, %t (%s)", c.name, until, bind, got.over, c.tie, over, got.job)
			}
		}
	}
}

func TestStepsBesideTheUsersEndALeaseOnlyWithItsJobWhereThatMatters(t *testing.T) {
	steps := []Step{done(2, 4, 12), running(3, 12), running(4, 13)}
	if got := sight(Lease{Until: policy.UntilThisStep, Created: after(10)}, steps); !got.over || got.job != "" {
		t.Errorf("this step: %+v", got)
	}
	if got := sight(Lease{Until: policy.UntilStep, Created: after(10)}, steps); got.over || got.job != `steps 3 "step 3" and 4 "step 4" ran side by side` {
		t.Errorf("step: %+v", got)
	}
}

func TestAStepsNameIsCutAndHarmless(t *testing.T) {
	if got := (Step{Number: 4, Name: "Publish\n\x1b[2J"}).String(); got != `4 "Publish\n\x1b[2J"` {
		t.Error(got)
	}
	if got := (Step{Number: 4, Name: strings.Repeat("ü", 300)}).String(); len([]rune(got)) > maxStepName+5 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

// played is a step as it truly was.
type played struct {
	number     int
	from, to   time.Time
	skipped    bool
	background bool
}

// play makes a job: steps of some milliseconds to minutes, one after the other, some
// skipped, some in the background if that is wanted.
func play(t *rapid.T, background bool) []played {
	var steps []played
	at, number := noon, 0
	ms := func(most int, name string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Millisecond
	}
	for range rapid.IntRange(2, 7).Draw(t, "steps") {
		number += rapid.SampledFrom([]int{1, 1, 1, 4}).Draw(t, "gap")
		at = at.Add(ms(rapid.SampledFrom([]int{0, 20, 3000}).Draw(t, "pauses"), "pause"))
		s := played{number: number, from: at, to: at}
		switch s.skipped = rapid.IntRange(0, 5).Draw(t, "skipped") == 0; {
		case s.skipped:
		case background && rapid.IntRange(0, 2).Draw(t, "background") == 0:
			s.to, s.background = at.Add(ms(40000, "long")), true
		default:
			s.to = at.Add(1 + ms(rapid.SampledFrom([]int{300, 3000, 30000}).Draw(t, "lasts"), "long"))
			at = s.to
		}
		steps = append(steps, s)
	}
	return steps
}

// view is what CI shows of the steps as they were at a moment.
func view(t *rapid.T, steps []played, moment time.Time) []Step {
	var seen []Step
	hides := rapid.Bool().Draw(t, "steps to come are hidden")
	for _, s := range steps {
		v := Step{Number: s.number}
		switch {
		case moment.Before(s.from):
			if hides {
				continue
			}
		case s.skipped:
			v.Begun, v.Over, v.Skipped = true, true, true
			if rapid.Bool().Draw(t, "skipped has times") {
				v.Started, v.Completed = shown(s.from), shown(s.to)
			}
		case moment.Before(s.to):
			v.Begun, v.Started = true, shown(s.from)
		default:
			v.Begun, v.Over, v.Started, v.Completed = true, true, shown(s.from), shown(s.to)
		}
		seen = append(seen, v)
	}
	return seen
}

// Whatever the job was like, and however late and in whatever order it is seen: no
// lease ends before the step that asked is over and, with step, the next that ran.
func TestNoLeaseEndsBeforeItsStepIsOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		background := rapid.Bool().Draw(t, "some in the background")
		steps := play(t, background)
		i := rapid.IntRange(0, len(steps)-1).Draw(t, "asker")
		if steps[i].skipped {
			t.Skip("a skipped step asks nothing")
		}
		asker := steps[i]
		last := asker.to
		l := Lease{Until: rapid.SampledFrom([]policy.Until{policy.UntilStep, policy.UntilThisStep}).Draw(t, "until")}
		l.Created = asker.from.Add(time.Duration(rapid.Int64Range(0, int64(asker.to.Sub(asker.from))).Draw(t, "asks after")))
		if l.Until == policy.UntilStep {
			for _, s := range steps[i+1:] {
				if !s.skipped {
					last = s.to
					if asker.to.After(last) {
						last = asker.to
					}
					break
				}
			}
		}
		sees := l.Created
		for range rapid.IntRange(1, 12).Draw(t, "views") {
			sees = sees.Add(time.Duration(rapid.IntRange(0, 15000).Draw(t, "later")) * time.Millisecond)
			moment := sees.Add(-time.Duration(rapid.IntRange(0, 25000).Draw(t, "lag")) * time.Millisecond)
			seen := sight(l, view(t, steps, moment))
			switch {
			case seen.job != "" && !background:
				t.Fatalf("steps one after the other: %s", seen.job)
			case seen.job != "":
				return
			case seen.tie.Number < l.Step:
				continue
			}
			if l.Step = max(l.Step, seen.tie.Number); seen.over && moment.Before(last) {
				t.Fatalf("ended on a view of %s; it asked at %s, its last step is over at %s; steps %+v", moment, l.Created, last, steps)
			}
		}
	})
}

// And it does end: a view of a job whose steps are all over ends it with the step that
// asked, unless that was over within the second.
func TestALeaseEndsOnceItsStepsAreSeenToBeOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := play(t, false)
		var ran []played
		for _, s := range steps {
			if !s.skipped {
				ran = append(ran, s)
			}
		}
		if len(ran) < 2 {
			t.Skip("no step after the one that asks")
		}
		i := rapid.IntRange(0, len(ran)-2).Draw(t, "asker")
		l := Lease{Until: policy.UntilStep, Created: ran[i].from}
		seen := sight(l, view(t, steps, noon.Add(time.Hour)))
		if sameSecond := shown(ran[i].to).Equal(shown(l.Created)); !sameSecond && (seen.tie.Number != ran[i].number || !seen.over) {
			t.Fatalf("%+v of %+v", seen, steps)
		}
	})
}
