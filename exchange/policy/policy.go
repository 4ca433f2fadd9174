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
// Matching is exact, byte by byte, on verified claims. There are no patterns, no
// case folding and no defaults: a claim that is missing, or of a type that has no
// text, never matches. The one special case are claims whose names begin with
// repo_property_: GitHub joins the values of a multi-select property with commas,
// so such a claim matches if one of its comma-separated elements equals a wanted
// value, whole; "prod" is not in "nonprod,x".
//
// It knows no HTTP, no SQL and no backend, only what a backend's Scope is.
package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
)

// A Task is one defined piece of work, as its task file says. Exported fields are
// for people to read; who may do it is asked of Authorize alone.
type Task struct {
	Name    string
	Purpose string
	File    string // the task file's name
	Backend string // the key under credential
	Scope   backend.Scope
	TTL     time.Duration // the most a lease of it lasts
	PerJob  int           // the most live leases of it that one job may hold

	allow []entry
}

// A Set is one generation of tasks. Immutable, safe for concurrent use. The zero
// Set knows no task.
type Set struct {
	tasks map[string]Task
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
		return Grant{}, &UnknownTask{Task: asked.Task}
	}
	admitted, misses := task.admit(w)
	if admitted == nil {
		return Grant{}, &Denial{Task: task.Name, Misses: misses}
	}
	ttl, why := task.narrow(asked.TTL)
	if why != "" {
		return Grant{}, &Denial{Task: task.Name, Asked: why}
	}
	return Grant{
		Task:    task.Name,
		Purpose: task.Purpose,
		Backend: task.Backend,
		Scope:   task.Scope,
		TTL:     ttl,
		PerJob:  task.PerJob,
		Rule:    admitted.rule,
	}, nil
}

// admit returns the first entry of allow in which everything holds, or what was
// missed in each.
func (t Task) admit(w identity.Workload) (*entry, []Miss) {
	var misses []Miss
	for i := range t.allow {
		miss := t.allow[i].unmet(w)
		if miss == nil {
			return &t.allow[i], nil
		}
		misses = append(misses, *miss)
	}
	return nil, misses
}

// narrow takes what was asked where it is narrower than the task. What is wider is
// refused, not cut: whoever asked for it would count on it.
func (t Task) narrow(asked time.Duration) (ttl time.Duration, why string) {
	switch {
	case asked == 0:
		return t.TTL, ""
	case asked > t.TTL:
		return 0, "a lifetime of " + span(asked) + " was asked for; the task gives at most " + span(t.TTL) + ", and asking may only narrow"
	case asked < minTTL:
		return 0, "a lifetime of " + span(asked) + " was asked for; the least is " + span(minTTL)
	default:
		return asked, ""
	}
}
