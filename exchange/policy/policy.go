// Package policy answers one question: what may this workload have?
//
// It hides how task files are written, read and checked, and how the claims of a
// workload are held against them. The answer is a Grant, never wider than the
// task, or a Denial that knows the first thing that did not hold in each entry.
//
// A Set is one immutable generation of all task files. It is made whole or not at
// all: one faulty file refuses the lot, so that the exchange goes on with the last
// good Set and never with half of a new one. A request takes one Set and keeps it.
//
// What claims lists is matched exactly, byte by byte, on verified claims. There are no
// patterns in it, no case folding and no defaults: a claim that is missing, or of a type
// that has no text, never matches. The one special case are claims whose names begin
// with repo_property_: GitHub joins the values of a multi-select property with commas,
// so such a claim matches if one of its comma-separated elements equals a wanted
// value, whole; "prod" is not in "nonprod,x".
//
// Conditions in CEL (when) come on top of that and can only let fewer in: see cel.go. A
// block may hold expressions, too; what comes of them is text that can mean one name,
// and the backend reads the result: see template.go. What is asked for may only narrow,
// which the backend's Covers decides: see narrow.go.
//
// It knows no HTTP, no SQL and no backend, only what a backend's Scope is.
package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Task is one defined piece of work, as its task file says. Exported fields are
// for people to read; who may do it is asked of Authorize alone.
type Task struct {
	Name    string
	Purpose string
	File    string // the task file's name
	Backend string // the key under credential
	// Scope is what the credential can do. Of a Templated task it is only an example,
	// made of sample values: what a workload gets comes of its claims and inputs.
	Scope     backend.Scope
	Templated bool
	Inputs    []Input       // in file order
	TTL       time.Duration // the most a lease of it lasts
	PerJob    int           // the most live leases of it that one job may hold
	Until     Until         // whose end ends a lease of it
	Require   Required      // what is asked of the CI system at each exchange
	Bind      Bind          // what the subject token must be bound to

	allow    []entry
	scoper   Scoper
	template template
}

// A Set is one generation of tasks. Immutable, safe for concurrent use. The zero
// Set knows no task.
type Set struct {
	tasks map[string]Task
	found []Finding // warnings and what is accepted, in file order
}

// Tasks returns all tasks, sorted by name.
func (s *Set) Tasks() []Task {
	all := make([]Task, 0, len(s.tasks))
	for _, t := range s.tasks {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Task) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Authorize returns what w gets of the task that it asked for. Any error means no:
// *UnknownTask, or *Denial.
func (s *Set) Authorize(w identity.Workload, asked Asked) (Grant, error) {
	task, ok := s.tasks[asked.Task]
	if !ok {
		return Grant{}, &UnknownTask{Task: asked.Task, Near: yamlfile.Nearest(asked.Task, slices.Sorted(maps.Keys(s.tasks)))}
	}
	f := facts{Workload: w}
	inputs, wrong := task.read(asked.Inputs)
	f.inputs, f.wrongInputs = inputs, wrong != ""
	admitted, misses := task.admit(f)
	if admitted == nil {
		return Grant{}, &Denial{Task: task.Name, Misses: misses}
	}
	ttl, why := task.life(asked.TTL)
	scope, whyScope := task.granted(f, asked.Narrow)
	if why := cmp.Or(wrong, why, whyScope); why != "" {
		return Grant{}, &Denial{Task: task.Name, Asked: why}
	}
	return Grant{
		Task:    task.Name,
		Purpose: task.Purpose,
		Backend: task.Backend,
		Scope:   scope,
		TTL:     ttl,
		PerJob:  task.PerJob,
		Until:   task.Until,
		Require: task.Require,
		Bind:    task.Bind,
		Rule:    admitted.rule,
	}, nil
}

// admit returns the first entry of allow in which everything holds, or what was
// missed in each.
func (t *Task) admit(f facts) (*entry, []Miss) {
	var misses []Miss
	for i := range t.allow {
		miss := t.allow[i].unmet(f)
		if miss == nil {
			return &t.allow[i], nil
		}
		misses = append(misses, *miss)
	}
	return nil, misses
}

// Gives says in words what the task gives. What a templated one gives is not known
// before somebody asks.
func (t Task) Gives() string {
	switch {
	case t.Scope == nil:
		return "nothing"
	case t.Templated:
		return "by claims and inputs, such as " + t.Scope.String()
	}
	return t.Scope.String()
}
