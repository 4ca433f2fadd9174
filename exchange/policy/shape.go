package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Looseness is a place in a workflow file where what runs is not what was reviewed:
// something that can be moved, or a cache that other runs fill.
type Looseness struct {
	Line    int // from 1; 0 where it is about the whole file
	Message string
}

func (l Looseness) String() string {
	if l.Line == 0 {
		return l.Message
	}
	return fmt.Sprintf("line %d: %s", l.Line, l.Message)
}

// Shape reads a workflow file of GitHub Actions and returns what is loose in it: every
// `uses` of a step or a job that is not pinned by digest, every job container that is
// not, and every step known to restore a cache. Nothing means that the file passes. A
// file that cannot be read as strictly as a task file does not pass: no aliases, one
// document, no more than 256 KiB.
//
// The whole file is examined, because no claim says which of its jobs a token belongs
// to. The tree is searched for `uses` rather than read by GitHub's schema, so that kinds
// of steps that GitHub adds one day are examined, too.
//
// It does not look at `run`, at what a pinned action itself uses, at actions of the
// workspace (./…: what lies there when the step runs) or at services, which run beside
// the job. So it holds off moved tags and poisoned caches, and not whoever may change
// the workflow.
func Shape(file string, data []byte) []Looseness {
	root, err := yamlfile.Parse(file, data)
	if err != nil {
		return unread(err)
	}
	jobs := root.Get("jobs")
	if len(jobs.Keys()) == 0 {
		return []Looseness{{Message: "it has no jobs, so it is no workflow"}}
	}
	var s shape
	for _, id := range jobs.Keys() {
		where, job := "job "+yamlfile.Quote(id), jobs.Get(id)
		s.search(where, job)
		s.container(where, job)
	}
	return s.found
}

func unread(err error) []Looseness {
	var all []Looseness
	for _, f := range yamlfile.Faults(err) {
		all = append(all, Looseness{f.Line, "it cannot be read without doubt: " + f.Message})
	}
	if len(all) == 0 {
		return []Looseness{{Message: "it cannot be read"}}
	}
	return all
}

// shape collects what is loose in one file.
type shape struct{ found []Looseness }

func (s *shape) loose(n yamlfile.Node, format string, args ...any) {
	s.found = append(s.found, Looseness{n.Line(), fmt.Sprintf(format, args...)})
}

// search looks at every `uses` below n. Keys are compared without case: where GitHub
// would not take another spelling, refusing it costs nothing.
func (s *shape) search(where string, n yamlfile.Node) {
	for _, key := range n.Keys() {
		value, name := n.Get(key), strings.ToLower(key)
		switch {
		case name == "uses":
			s.uses(where, n, value)
		case name == "steps" && value.IsList():
			for i, step := range value.Items() {
				s.search(fmt.Sprintf("step %d of %s", i+1, where), step)
			}
		case !freeKeys[name]:
			s.search(where, value)
		}
	}
	for _, item := range n.Items() {
		s.search(where, item)
	}
}

// freeKeys hold mappings whose keys are the workflow's own: a `uses` there is a name.
var freeKeys = map[string]bool{
	"with": true, "env": true, "outputs": true, "secrets": true, "strategy": true, "services": true, "permissions": true,
}

// uses looks at one value of `uses`; step is the mapping that it stands in.
func (s *shape) uses(where string, step, value yamlfile.Node) {
	var used string
	if value.Decode(&used) != nil || used == "" {
		s.loose(value, "%s has a uses that is no text", where)
		return
	}
	if why := unpinned(used); why != "" {
		s.loose(value, "%s uses %s, which %s", where, yamlfile.Quote(used), why)
	}
	for _, c := range cachesOf(used) {
		if c.restores(step) {
			s.loose(value, "%s restores a cache: %s%s", where, yamlfile.Quote(used), c.advice())
		}
	}
}

var (
	pinnedAction = regexp.MustCompile(`\A[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[^@\s]+)?@[0-9a-f]{40}\z`)
	pinnedImage  = regexp.MustCompile(`\A[^@\s]+@sha256:[0-9a-f]{64}\z`)
)

// unpinned says why what is used can change without a change of this file; of what
// cannot it says nothing. A branch or tag cannot have a name of 40 hex digits on GitHub.
func unpinned(used string) (why string) {
	image, isImage := strings.CutPrefix(used, "docker://")
	switch {
	case strings.Contains(used, "${{"):
		return "is not known before it runs"
	case strings.HasPrefix(used, "./"):
		return ""
	case isImage && !pinnedImage.MatchString(image):
		return "is not pinned by digest (docker://image@sha256:…)"
	case !isImage && !pinnedAction.MatchString(used):
		return "is not pinned by digest (owner/repository@ and the 40 digits of a commit)"
	}
	return ""
}

// container looks at the image that a job's steps run in.
func (s *shape) container(where string, job yamlfile.Node) {
	for _, key := range job.Keys() {
		if !strings.EqualFold(key, "container") {
			continue
		}
		image := job.Get(key)
		if image.IsMapping() {
			image = image.Get("image")
		}
		var name string
		if image.Decode(&name) != nil || !pinnedImage.MatchString(name) || strings.Contains(name, "${{") {
			s.loose(image, "%s runs in the image %s, which is not pinned by digest (image@sha256:…)", where, yamlfile.Quote(name))
		}
	}
}
