package postgres

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	postgres:
//	  database: app
//	  grants:
//	    - {schema: public, tables: [orders, customers], privileges: [select, insert]}
//	    - {schema: public, sequences: all, privileges: [usage]}
//	  connections: 2
//
// or, instead of grants, role: migrator.
type block struct {
	Database    yamlfile.Node   `yaml:"database,required"`
	Role        yamlfile.Node   `yaml:"role"`
	Grants      []yamlfile.Node `yaml:"grants"`
	Connections yamlfile.Node   `yaml:"connections"`
}

// grantBlock is one of grants.
type grantBlock struct {
	Schema     yamlfile.Node   `yaml:"schema,required"`
	Tables     yamlfile.Node   `yaml:"tables"`
	Sequences  yamlfile.Node   `yaml:"sequences"`
	Privileges []yamlfile.Node `yaml:"privileges,required"`
}

const (
	maxGrants          = 32
	maxObjects         = 128 // of one grant
	defaultConnections = 2
	maxConnections     = 100
	everything         = "all" // as a text and not in a list, where it is a name
)

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
		return nil, node.Errorf("want what may be done where, as postgres: {database: app, grants: [{schema: public, tables: [orders], privileges: [select]}]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{database: r.database(), connections: r.connections()}
	switch role, grants := r.block.Role.Exists(), node.Get("grants").Exists(); {
	case role && grants:
		r.Refuse(node.Key("grants"), "give either role or grants: a role brings its own privileges")
	case role:
		s.role = r.role()
	case len(r.block.Grants) == 0:
		r.Refuse(node, "nothing is granted, so nothing could be done; add grants: [{schema: public, tables: [orders], privileges: [select]}], or role: and one of the configuration's")
	default:
		s.grants = r.grants()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// name reads a name that fault has nothing against.
func (r *reader) name(at yamlfile.Node, what string, fault func(string) string) (string, bool) {
	text, ok := r.Text(at)
	if !ok {
		return "", false
	}
	if why := fault(text); why != "" {
		r.Refuse(at, "%s cannot be the name of a %s here: %s", yamlfile.Quote(text), what, why)
		return "", false
	}
	return text, true
}

func (r *reader) database() string {
	name, ok := r.name(r.block.Database, "database", nameFault)
	if ok && r.limits.Databases != nil && !slices.Contains(r.limits.Databases, name) {
		r.Refuse(r.block.Database, "the database %s is not one of the configuration's, which are: %s", yamlfile.Quote(name), listed(r.limits.Databases))
	}
	return name
}

func (r *reader) role() string {
	name, ok := r.name(r.block.Role, "role", roleFault)
	if ok && r.limits.Roles != nil && !slices.Contains(r.limits.Roles, name) {
		r.Refuse(r.block.Role, "the role %s is not one that tasks may have; the configuration lists: %s", yamlfile.Quote(name), listed(r.limits.Roles))
	}
	return name
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	var all []string
	for _, name := range names[:min(len(names), 20)] {
		all = append(all, shown(name))
	}
	return strings.Join(all, ", ")
}

func (r *reader) connections() int {
	at := r.block.Connections
	if !at.Exists() {
		return defaultConnections
	}
	var number int
	if err := at.Decode(&number); err != nil {
		r.Add(err)
	} else if number < 1 || number > maxConnections {
		r.Refuse(at, "want how many connections there may be at the same time, 1 to %d; found %d", maxConnections, number)
	}
	return number
}

func (r *reader) grants() []grant {
	if len(r.block.Grants) > maxGrants {
		r.Refuse(r.block.Grants[maxGrants], "%d grants are given; a task takes %d at most, so make a role that holds them", len(r.block.Grants), maxGrants)
		return nil
	}
	var all []grant
	for _, at := range r.block.Grants {
		for _, g := range r.grant(at) {
			all = merge(all, g)
		}
	}
	return all
}

// grant reads one of grants, which is one grant for each object.
func (r *reader) grant(at yamlfile.Node) []grant {
	var b grantBlock
	if err := at.Decode(&b); err != nil {
		r.Add(err)
		return nil
	}
	of, objects := tables, b.Tables
	switch {
	case b.Tables.Exists() && b.Sequences.Exists():
		r.Refuse(at.Key("sequences"), "give tables and sequences in a grant each: they have privileges of their own")
		return nil
	case b.Sequences.Exists():
		of, objects = sequences, b.Sequences
	case !b.Tables.Exists():
		r.Refuse(at, "name what is granted, as tables: [orders], or tables: all for all that are in the schema then")
		return nil
	}
	schema, ok := r.name(b.Schema, "schema", schemaFault)
	can := r.privileges(at, b.Privileges, of)
	names := r.objects(objects, of)
	if !ok {
		return nil
	}
	var all []grant
	for _, name := range names {
		all = append(all, grant{schema: schema, kind: of, object: name, privileges: can})
	}
	return all
}

// objects reads a list of names, or the word for all, which is an empty name.
func (r *reader) objects(at yamlfile.Node, of kind) []string {
	what := strings.ToLower(string(of))
	if !at.IsList() {
		word, ok := r.Text(at)
		if ok && word != everything {
			r.Refuse(at, "want a list of names, as [orders], or the word all; found %s", yamlfile.Quote(word))
			return nil
		}
		return []string{""}
	}
	items := at.Items()
	switch {
	case len(items) == 0:
		r.Refuse(at, "no %s is named; name those that the task needs", what)
	case len(items) > maxObjects:
		r.Refuse(items[maxObjects], "%d are named here; a grant takes %d at most, so make a role that holds them", len(items), maxObjects)
		return nil
	}
	var names []string
	for _, item := range items {
		name, ok := r.name(item, what, nameFault)
		if ok && slices.Contains(names, name) {
			r.Refuse(item, "the %s %s is named twice", what, yamlfile.Quote(name))
		}
		if ok {
			names = append(names, name)
		}
	}
	return names
}

func (r *reader) privileges(grant yamlfile.Node, items []yamlfile.Node, of kind) []string {
	known := privileges[of]
	if len(items) == 0 {
		r.Refuse(grant.Get("privileges"), "no privilege is named; name those that the task needs, as [%s]", known[0])
	}
	var can []string
	for _, at := range items {
		word, ok := r.Text(at)
		switch {
		case !ok:
		case slices.Contains(can, word):
			r.Refuse(at, "%s is named twice", word)
		case !slices.Contains(known, word):
			r.unknownPrivilege(at, word, of)
		default:
			can = append(can, word)
		}
	}
	slices.SortFunc(can, func(a, b string) int { return cmp.Compare(slices.Index(known, a), slices.Index(known, b)) })
	return can
}

func (r *reader) unknownPrivilege(at yamlfile.Node, word string, of kind) {
	known, what := privileges[of], strings.ToLower(string(of))
	switch near := yamlfile.Nearest(word, known); {
	case slices.Contains([]string{"all", "trigger", "references", "maintain"}, strings.ToLower(word)):
		r.Refuse(at, "%s is not given to tasks one by one: it reaches further than it says; give a role that has it", yamlfile.Quote(word))
	case near != "":
		r.Refuse(at, "a %s has no privilege %s here (did you mean %q?)", what, yamlfile.Quote(word), near)
	default:
		r.Refuse(at, "a %s has no privilege %s here; there is: %s", what, yamlfile.Quote(word), strings.Join(known, ", "))
	}
}
