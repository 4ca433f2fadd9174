package exec

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	exec:
//	  program: tokens
//	  parameters: {area: reports, can: [read]}
type block struct {
	Program    yamlfile.Node `yaml:"program,required"`
	Parameters yamlfile.Node `yaml:"parameters"`
}

// reader reads one block.
type reader struct {
	yamlfile.Collector
	node  backend.Block
	block block
}

// Scope reads a task's block; see block for its keys.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want which program makes the credential, as exec: {program: tokens, parameters: {area: reports}}")
	}
	r := &reader{node: node}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{program: r.program(b.programs), parameters: map[string]value{}}
	p := b.programs[s.program]
	if p != nil {
		s.about, s.expires = p.about, !p.revocable
	}
	if at := r.block.Parameters; at.Exists() && !at.IsMapping() {
		r.Refuse(at, "want the program's parameters, as {area: reports}")
	} else if !r.Any() {
		r.parameters(p, s.parameters)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) program(known map[string]*program) string {
	name, ok := r.Text(r.block.Program)
	switch _, there := known[name]; {
	case !ok:
	case !programName.MatchString(name):
		r.Refuse(r.block.Program, "%s; found %s", nameForm, yamlfile.Quote(name))
	case there && known[name].retired:
		r.Refuse(r.block.Program, "the program %s is retired in the configuration: it ends what it made and makes nothing more; name another", name)
	case known != nil && !there:
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(name string) bool { return known[name].retired })
		if near := yamlfile.Nearest(name, names); near != "" {
			r.Refuse(r.block.Program, "there is no program %s (did you mean %q?)", name, near)
		} else {
			r.Refuse(r.block.Program, "there is no program %s in the configuration; there is: %s", name, cmp.Or(strings.Join(names, ", "), "none"))
		}
	}
	return name
}

// parameters reads what the task gives. Where no configuration is at hand, p is nil, and
// anything is taken that some form could take.
func (r *reader) parameters(p *program, into map[string]value) {
	at := r.block.Parameters
	if len(at.Keys()) > maxParameters {
		r.Refuse(at, "%d parameters are given; a program takes %d at most", len(at.Keys()), maxParameters)
		return
	}
	for _, name := range at.Keys() {
		one := at.Get(name)
		f, known := form{length: mostLength, most: mostItems, list: one.IsList()}, true
		if p != nil {
			f, known = p.forms[name]
		}
		if !known || !parameterName.MatchString(name) {
			r.unknown(at.Key(name), name, p)
			continue
		}
		into[name] = r.value(one, f)
	}
	if p == nil || r.Any() { // what seems to be missing may be the one that is misspelt
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.forms)) {
		if _, given := into[name]; !given && !p.forms[name].optional && !at.Get(name).Exists() {
			r.Refuse(cmp.Or(at, r.node), "the program %s wants the parameter %s", p.name, name)
		}
	}
}

func (r *reader) unknown(at yamlfile.Node, name string, p *program) {
	if p == nil {
		r.Refuse(at, "%s; found %s", parameterForm, yamlfile.Quote(name))
		return
	}
	names := slices.Sorted(maps.Keys(p.forms))
	if near := yamlfile.Nearest(name, names); near != "" {
		r.Refuse(at, "the program %s has no parameter %s (did you mean %q?)", p.name, yamlfile.Quote(name), near)
		return
	}
	r.Refuse(at, "the program %s has no parameter %s; it has: %s", p.name, yamlfile.Quote(name), strings.Join(names, ", "))
}

func (r *reader) value(at yamlfile.Node, f form) value {
	v := value{list: f.list}
	items := []yamlfile.Node{at}
	switch {
	case f.list && !at.IsList():
		r.Refuse(at, "want a list, as [read]")
		return v
	case f.list:
		items = at.Items()
	}
	switch {
	case len(items) == 0:
		r.Refuse(at, "the list is empty; name something, or leave an optional parameter out")
	case len(items) > f.most && f.list:
		r.Refuse(items[f.most], "%d are named here; %d is the most", len(items), f.most)
		return v
	}
	for _, item := range items {
		text, ok := r.Text(item)
		if !ok {
			continue
		}
		if why := f.badText(text); why != "" {
			r.Refuse(item, "the program is not given %s: %s", yamlfile.Quote(text), why)
		} else if slices.Contains(v.texts, text) {
			r.Refuse(item, "%s is named twice", yamlfile.Quote(text))
		}
		v.texts = append(v.texts, text)
	}
	slices.Sort(v.texts)
	return v
}
