package github

import (
	"strconv"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	github:
//	  owner: acme
//	  repositories: [widget]
//	  repository_ids: [456789]
//	  permissions: {contents: write}
type block struct {
	Owner        yamlfile.Node            `yaml:"owner"`
	Repositories []yamlfile.Node          `yaml:"repositories"`
	IDs          []yamlfile.Node          `yaml:"repository_ids"`
	Permissions  map[string]yamlfile.Node `yaml:"permissions,required"`
}

// reader reads one block.
type reader struct {
	yamlfile.Collector
	node  backend.Block
	block block
}

// Scope reads a task's block; see block for its keys. repository_ids are
// preferred: they decide, and repositories beside them are words for people.
// With repositories alone the names decide, at the moment of each issue.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want what the token shall reach, as github: {repository_ids: [456789], permissions: {contents: write}}")
	}
	r := &reader{node: node}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{owner: r.owner(b.owner), permissions: r.permissions()}
	s.repositories = r.repositories(s.owner)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) owner(otherwise string) string {
	at := r.block.Owner
	if !at.Exists() {
		return otherwise
	}
	owner, ok := r.Text(at)
	if ok && !githubapp.ValidOwner(owner) {
		r.Refuse(at, "want the login of one organization or user, as acme; found %s", yamlfile.Quote(owner))
	}
	return owner
}

func (r *reader) permissions() map[string]string {
	at := r.node.Get("permissions")
	if len(at.Keys()) == 0 {
		r.Refuse(at, "no permission is named, and GitHub would give all that the App has; name what the task needs, as {contents: write}")
	}
	asked := map[string]string{}
	for _, name := range at.Keys() {
		known, ok := permissionNamed(name)
		if !ok {
			r.unknown(at.Key(name), name)
			continue
		}
		level, ok := r.Text(at.Get(name))
		if ok && !known.takes(level) {
			r.Refuse(at.Get(name), "%s takes %s; found %s", name, strings.Join(strings.Fields(known.levels), " or "), yamlfile.Quote(level))
		}
		asked[name] = level
	}
	return asked
}

func (r *reader) unknown(at yamlfile.Node, name string) {
	if near := nearestPermission(name); near != "" {
		r.Refuse(at, "GitHub Apps have no permission %s (did you mean %q?)", yamlfile.Quote(name), near)
		return
	}
	r.Refuse(at, "GitHub Apps have no permission %s; GitHub lists them under \"Permissions required for GitHub Apps\"", yamlfile.Quote(name))
}

func (r *reader) repositories(owner string) []repository {
	names, ids := r.names(), r.ids()
	switch {
	case len(names) != len(r.block.Repositories) || len(ids) != len(r.block.IDs):
		// told already
	case len(names)+len(ids) == 0:
		r.Refuse(r.node, "no repository is named, and GitHub would give all of the installation; add repository_ids: [456789] or repositories: [widget]")
	case max(len(names), len(ids)) > githubapp.MaxRepositories:
		r.Refuse(r.node, "%d repositories are named; GitHub takes at most %d for one token", max(len(names), len(ids)), githubapp.MaxRepositories)
	case len(ids) == 0 && owner == "" && !r.block.Owner.Exists():
		r.Refuse(r.node, "repositories are named without their owner; add owner: acme, or name them by repository_ids")
	case len(ids) > 0 && len(names) > 0 && len(names) != len(ids):
		r.Refuse(r.node.Get("repositories"), "%d names stand beside %d repository_ids, which decide; give each id its name, in the same order, or leave the names out", len(names), len(ids))
	default:
		return combine(owner, names, ids)
	}
	return nil
}

func combine(owner string, names []string, ids []int64) []repository {
	all := make([]repository, max(len(names), len(ids)))
	for i := range all {
		if len(names) > 0 {
			all[i].name = names[i]
			all[i].owner = owner
		}
		if len(ids) > 0 {
			all[i].id = ids[i]
			all[i].byWords = len(names) > 0
		}
	}
	return all
}

func (r *reader) names() []string {
	var names []string
	seen := map[string]bool{}
	for _, at := range r.block.Repositories {
		name, ok := r.Text(at)
		if !ok {
			continue
		}
		if owner, rest, slash := strings.Cut(name, "/"); slash && githubapp.ValidOwner(owner) && githubapp.ValidRepository(rest) {
			r.Refuse(at, "want the name alone, %s; the owner stands once, as owner: %s", yamlfile.Quote(rest), owner)
		} else if !githubapp.ValidRepository(name) {
			r.Refuse(at, "want the name of one repository, as widget, without owner, wildcard or .git; found %s", yamlfile.Quote(name))
		} else if seen[strings.ToLower(name)] {
			r.Refuse(at, "the repository %s is named twice", name)
		}
		seen[strings.ToLower(name)] = true
		names = append(names, name)
	}
	return names
}

func (r *reader) ids() []int64 {
	var ids []int64
	seen := map[int64]bool{}
	for _, at := range r.block.IDs {
		id, ok := r.id(at)
		if !ok {
			continue
		}
		if seen[id] {
			r.Refuse(at, "the repository %d is named twice", id)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids
}

// id reads a number, or text of digits: that is what ${claims.repository_id}
// becomes.
func (r *reader) id(at yamlfile.Node) (int64, bool) {
	var id int64
	if at.Decode(&id) != nil {
		text, ok := r.Text(at)
		if !ok {
			return 0, false
		}
		parsed, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(parsed, 10) != text {
			r.Refuse(at, "want the numeric id of a repository, as 456789; found %s", yamlfile.Quote(text))
			return 0, false
		}
		id = parsed
	}
	if id <= 0 {
		r.Refuse(at, "want the numeric id of a repository, a positive number; found %d", id)
		return 0, false
	}
	return id, true
}
