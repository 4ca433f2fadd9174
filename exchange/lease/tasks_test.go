package lease

import (
	"strings"
	"testing"
	"time"
)

func TestWhatIsHeldOfATaskIsFoundByItsName(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		one, _ := h.activate(t, "jti-1", "job-1")
		h.wait(time.Second)
		two := h.begin(t, "jti-2", "job-2").Lease()
		g := grant()
		g.Task = "acme/widget:deploy"
		own, err := h.Begin(t.Context(), Ask{Workload: workload("jti-3", "job-3"), Grant: g}, anHour)
		if err != nil {
			t.Fatal(err)
		}
		ending, _ := h.activate(t, "jti-4", "job-4")
		if _, err := h.StartEnding(t.Context(), ending.ID, ByHolder); err != nil {
			t.Fatal(err)
		}
		for task, want := range map[string][]Lease{
			"publish-release": {one, two}, "acme/widget:deploy": {own.Lease()}, "deploy": nil,
		} {
			if got, err := h.LivesOfTask(t.Context(), task); err != nil || names(got) != names(want) {
				t.Errorf("%s: %s, %v, want %s", task, names(got), err, names(want))
			}
		}
		if got, err := h.LiveTasks(t.Context()); err != nil || strings.Join(got, " ") != "acme/widget:deploy publish-release" {
			t.Errorf("%v, %v", got, err)
		}
		if err := h.Fail(t.Context(), own, "no"); err != nil {
			t.Fatal(err)
		}
		if got, err := h.LiveTasks(t.Context()); err != nil || strings.Join(got, " ") != "publish-release" {
			t.Errorf("once it is over: %v, %v", got, err)
		}
	})
}
