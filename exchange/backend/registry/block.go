package registry

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	registry:
//	  repositories: [acme/widget]
//	  actions: [pull, push]
//	  pull_from: [acme/base]
type block struct {
	Repositories []yamlfile.Node `yaml:"repositories,required"`
	Actions      []yamlfile.Node `yaml:"actions,required"`
	PullFrom     []yamlfile.Node `yaml:"pull_from"`
}

const (
	maxRepositories = 16   // in each list
	maxName         = 255  // bytes; distribution's own limit, of a name with its registry
	maxNames        = 2048 // bytes of all names together: they travel in every login
)

// validName is distribution's grammar of a repository's name without its registry.
var validName = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)

const nameForm = "want a repository's whole name without registry, tag and digest, in lower case, as acme/widget"

// reader reads one block.
type reader struct {
	yamlfile.Collector
	node   backend.Block
	block  block
	limits Limits
}

// Scope reads a task's block; see block for its keys.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want which repositories and what is done with them, as registry: {repositories: [acme/widget], actions: [pull, push]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{registry: b.limits.Registry, service: b.limits.Service, grants: r.grants()}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) grants() []grant {
	if len(r.block.Repositories) == 0 {
		r.Refuse(r.node.Get("repositories"), "no repository is named, and there is no login for all; name those that the task works on, as [acme/widget]")
	}
	if list := r.node.Get("pull_from"); list.IsList() && len(r.block.PullFrom) == 0 {
		r.Refuse(list, "pull_from names no repository; name those that are only read, or leave it out")
	}
	can, seen := r.actions(), []string{}
	var all []grant
	for _, of := range []struct {
		names []yamlfile.Node
		can   []string
	}{{r.block.Repositories, can}, {r.block.PullFrom, []string{"pull"}}} {
		if len(of.names) > maxRepositories {
			r.Refuse(of.names[maxRepositories], "%d repositories are named here; a task takes %d at most", len(of.names), maxRepositories)
			return nil
		}
		for _, at := range of.names {
			name, ok := r.repository(at)
			switch {
			case ok && slices.Contains(seen, name):
				r.Refuse(at, "the repository %s is named twice", name)
			case ok:
				seen = append(seen, name)
				all = append(all, grant{Name: name, Actions: of.can})
			}
		}
	}
	if size := len(strings.Join(seen, "")); size > maxNames {
		r.Refuse(r.node, "the names of the repositories have %d characters together, which travel in every login; a task takes %d at most", size, maxNames)
	}
	slices.SortFunc(all, func(a, b grant) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *reader) repository(at yamlfile.Node) (string, bool) {
	name, ok := r.Text(at)
	switch {
	case !ok:
	case len(name) > maxName, !validName.MatchString(name):
		r.Refuse(at, "%s; found %s", nameForm, yamlfile.Quote(name))
	case r.limits.allows(name):
		return name, true
	default:
		r.notConfigured(at, name)
	}
	return "", false
}

func (r *reader) notConfigured(at yamlfile.Node, name string) {
	if near := yamlfile.Nearest(name, r.limits.Repositories); near != "" {
		r.Refuse(at, "the repository %s is not one of the configuration's (did you mean %q?)", name, near)
		return
	}
	r.Refuse(at, "the repository %s is not one of the configuration's; add it under backends, registry, repositories", name)
}

func (r *reader) actions() []string {
	if len(r.block.Actions) == 0 {
		r.Refuse(r.node.Get("actions"), "no action is named; name what the task does, of %s", strings.Join(actions, ", "))
	}
	var all []string
	for _, at := range r.block.Actions {
		action, ok := r.Text(at)
		switch {
		case !ok:
		case !slices.Contains(actions, action):
			r.Refuse(at, "want an action of %s; found %s", strings.Join(actions, ", "), yamlfile.Quote(action))
		case slices.Contains(all, action):
			r.Refuse(at, "the action %s is named twice", action)
		default:
			all = append(all, action)
		}
	}
	if slices.Contains(all, "push") && !slices.Contains(all, "pull") {
		r.Refuse(r.node.Get("actions"), "push is named without pull, and the registry wants both of whoever pushes; write [pull, push]")
	}
	slices.Sort(all)
	return all
}
