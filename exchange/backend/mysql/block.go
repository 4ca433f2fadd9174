package mysql

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	mysql:
//	  database: app
//	  grants:
//	    - {tables: [orders, customers], privileges: [select, insert]}
//	    - {database: archive, tables: all, privileges: [select]}
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
	Database   yamlfile.Node   `yaml:"database"`
	Tables     yamlfile.Node   `yaml:"tables,required"`
	Privileges []yamlfile.Node `yaml:"privileges,required"`
}

const (
	maxGrants          = 32
	maxTables          = 128 // of one grant
	maxObjects         = 256 // of all: each is a statement of its own
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
		return nil, node.Errorf("want what may be done where, as mysql: {database: app, grants: [{tables: [orders], privileges: [select]}]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{database: r.database(r.block.Database), connections: r.connections()}
	switch role, grants := r.block.Role.Exists(), node.Get("grants").Exists(); {
	case role && grants:
		r.Refuse(node.Key("grants"), "give either role or grants: a role brings its own privileges")
	case role:
		s.role = r.role()
	case len(r.block.Grants) == 0:
		r.Refuse(node, "nothing is granted, so nothing could be done; add grants: [{tables: [orders], privileges: [select]}], or role: and one of the configuration's")
	default:
		s.grants = r.grants(s.database)
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

func (r *reader) database(at yamlfile.Node) string {
	name, ok := r.name(at, "database", databaseFault)
	if ok && r.limits.Databases != nil && !slices.Contains(r.limits.Databases, name) {
		r.Refuse(at, "the database %s is not one of the configuration's, which are: %s", yamlfile.Quote(name), listed(r.limits.Databases))
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

func (r *reader) grants(home string) []grant {
	if len(r.block.Grants) > maxGrants {
		r.Refuse(r.block.Grants[maxGrants], "%d grants are given; a task takes %d at most, so make a role that holds them", len(r.block.Grants), maxGrants)
		return nil
	}
	var all []grant
	for _, at := range r.block.Grants {
		for _, g := range r.grant(at, home) {
			all = merge(all, g)
		}
	}
	if len(all) > maxObjects {
		r.Refuse(r.node.Key("grants"), "%d tables are named in all; a task takes %d at most, so make a role that holds them", len(all), maxObjects)
	}
	if len(all) > 0 && !slices.ContainsFunc(all, func(g grant) bool { return g.database == home }) {
		r.Refuse(r.block.Database, "nothing is granted in the database %s, so nobody could log in to it; name one that something is granted in", yamlfile.Quote(home))
	}
	return all
}

// grant reads one of grants, which is one grant for each table.
func (r *reader) grant(at yamlfile.Node, home string) []grant {
	var b grantBlock
	if err := at.Decode(&b); err != nil {
		r.Add(err)
		return nil
	}
	database := home
	if b.Database.Exists() {
		database = r.database(b.Database)
	}
	names := r.tables(b.Tables)
	known := ofTables
	if slices.Contains(names, "") {
		known = ofAll
	}
	can := r.privileges(at, b.Privileges, known)
	var all []grant
	for _, name := range names {
		all = append(all, grant{database: database, table: name, privileges: can})
	}
	return all
}

// tables reads a list of names, or the word for all, which is an empty name.
func (r *reader) tables(at yamlfile.Node) []string {
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
		r.Refuse(at, "no table is named; name those that the task needs")
	case len(items) > maxTables:
		r.Refuse(items[maxTables], "%d are named here; a grant takes %d at most, so make a role that holds them", len(items), maxTables)
		return nil
	}
	var names []string
	for _, item := range items {
		name, ok := r.name(item, "table", nameFault)
		if ok && slices.Contains(names, name) {
			r.Refuse(item, "the table %s is named twice", yamlfile.Quote(name))
		}
		if ok {
			names = append(names, name)
		}
	}
	return names
}

func (r *reader) privileges(grant yamlfile.Node, items []yamlfile.Node, known []string) []string {
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
			r.unknownPrivilege(at, word, known)
		default:
			can = append(can, word)
		}
	}
	slices.SortFunc(can, func(a, b string) int { return cmp.Compare(slices.Index(known, a), slices.Index(known, b)) })
	return can
}

// byRoleAlone are privileges that reach further than they say.
var byRoleAlone = []string{
	"all", "all privileges", "create", "drop", "alter", "index", "references", "trigger", "event", "execute",
	"create view", "show view", "create routine", "alter routine", "create temporary tables", "grant option",
}

func (r *reader) unknownPrivilege(at yamlfile.Node, word string, known []string) {
	switch near := yamlfile.Nearest(word, known); {
	case word == "lock tables":
		r.Refuse(at, "lock tables can be had for all tables of a database alone; give it in a grant with tables: all")
	case slices.Contains(byRoleAlone, strings.ToLower(word)):
		r.Refuse(at, "%s is not given to tasks one by one: it reaches further than it says; give a role that has it", yamlfile.Quote(word))
	case near != "":
		r.Refuse(at, "there is no privilege %s here (did you mean %q?)", yamlfile.Quote(word), near)
	default:
		r.Refuse(at, "there is no privilege %s here; there is: %s", yamlfile.Quote(word), strings.Join(known, ", "))
	}
}
