package kubernetes

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	kubernetes:
//	  namespace: web
//	  rules:
//	    - {api_group: apps, resources: [deployments], names: [web], verbs: [get, patch]}
//	    - {resources: [configmaps], verbs: [get, list]}
//
// or, instead of rules, one of role: deployer, cluster_role: view, and
// service_account: publisher.
type block struct {
	Namespace      yamlfile.Node   `yaml:"namespace,required"`
	Rules          []yamlfile.Node `yaml:"rules"`
	Role           yamlfile.Node   `yaml:"role"`
	ClusterRole    yamlfile.Node   `yaml:"cluster_role"`
	ServiceAccount yamlfile.Node   `yaml:"service_account"`
}

// ruleBlock is one of rules.
type ruleBlock struct {
	APIGroup  yamlfile.Node   `yaml:"api_group"`
	Resources []yamlfile.Node `yaml:"resources,required"`
	Names     []yamlfile.Node `yaml:"names"`
	Verbs     []yamlfile.Node `yaml:"verbs,required"`
}

const (
	maxRules     = 16
	maxResources = 16 // of one rule
	maxNames     = 32
)

// reader reads one block.
type reader struct {
	yamlfile.Collector
	node   backend.Block
	block  block
	limits Limits
	in     Namespace // what the configuration has for it
}

// Scope reads a task's block; see block for its keys.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want what may be done where, as kubernetes: {namespace: web, rules: [{resources: [configmaps], verbs: [get]}]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{namespace: r.namespace()}
	r.means(s)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) namespace() string {
	at := r.block.Namespace
	name, ok := r.Text(at)
	if !ok {
		return ""
	}
	if why := namespaceFault(name); why != "" {
		r.Refuse(at, "%s cannot be a task's namespace: %s", yamlfile.Quote(name), why)
		return ""
	}
	if r.limits.Namespaces == nil {
		return name
	}
	in, listed := r.limits.Namespaces[name]
	if !listed {
		r.notConfigured(at, "namespace", name, slices.Sorted(maps.Keys(r.limits.Namespaces)))
		return ""
	}
	r.in = in
	return name
}

// means reads by what the token may do something: one of four keys.
func (r *reader) means(s *scope) {
	given := map[form]yamlfile.Node{
		byRules: r.node.Get("rules"), byRole: r.block.Role, byClusterRole: r.block.ClusterRole, byAccount: r.block.ServiceAccount,
	}
	maps.DeleteFunc(given, func(_ form, at yamlfile.Node) bool { return !at.Exists() })
	if len(given) != 1 {
		r.Refuse(r.node, "want one of rules, role, cluster_role and service_account, which says what the token may do; found %d", len(given))
		return
	}
	for s.form = range given {
	}
	switch s.form {
	case byRules:
		s.grants = r.rules()
	case byRole:
		s.name = r.named(given[byRole], byRole, r.in.Roles)
	case byClusterRole:
		s.name = r.named(given[byClusterRole], byClusterRole, r.in.ClusterRoles)
	case byAccount:
		s.name = r.named(given[byAccount], byAccount, r.in.ServiceAccounts)
	}
}

// named reads the name of a role or of a service account.
func (r *reader) named(at yamlfile.Node, of form, allowed []string) string {
	name, ok := r.Text(at)
	if !ok {
		return ""
	}
	what := strings.ReplaceAll(string(of), "_", " ")
	if why := of.fault(name); why != "" {
		r.Refuse(at, "%s cannot be a task's %s: %s", yamlfile.Quote(name), what, why)
	} else if r.limits.Namespaces != nil && !slices.Contains(allowed, name) {
		r.notConfigured(at, what, name, allowed)
	}
	return name
}

func (r *reader) notConfigured(at yamlfile.Node, what, name string, names []string) {
	if near := yamlfile.Nearest(name, names); near != "" {
		r.Refuse(at, "the %s %s is not one of the configuration's (did you mean %q?)", what, name, near)
		return
	}
	listed := "none"
	if len(names) > 0 {
		listed = strings.Join(names[:min(len(names), 20)], ", ")
	}
	r.Refuse(at, "the %s %s is not one of the configuration's; there it has: %s", what, name, listed)
}

func (r *reader) rules() []grant {
	all := r.block.Rules
	switch {
	case r.limits.Namespaces != nil && !r.in.Rules && !r.Any():
		r.Refuse(r.node.Key("rules"), "the configuration gives tasks no rules of their own in this namespace; name a role, or add rules: true under backends, kubernetes, namespaces")
	case len(all) == 0:
		r.Refuse(r.node.Get("rules"), "there is no rule, so nothing could be done; add what the task needs, as {resources: [configmaps], verbs: [get]}")
	case len(all) > maxRules:
		r.Refuse(all[maxRules], "%d rules are given; a task takes %d at most, so make a role that holds them", len(all), maxRules)
		return nil
	}
	var grants []grant
	for _, at := range all {
		for _, g := range r.rule(at) {
			grants = merge(grants, g)
		}
	}
	return withoutDoubles(grants)
}

// rule reads one of rules, which is one grant for each resource and name.
func (r *reader) rule(at yamlfile.Node) []grant {
	var b ruleBlock
	if err := at.Decode(&b); err != nil {
		r.Add(err)
		return nil
	}
	group := r.apiGroup(b.APIGroup)
	resources := r.list(at.Get("resources"), b.Resources, list{what: "resource", most: maxResources, form: validResource, like: "configmaps, or pods/log"})
	names := []string{""}
	if at.Get("names").Exists() {
		names = r.list(at.Get("names"), b.Names, list{what: "name", most: maxNames, form: validRole, like: "web"})
	}
	can := r.verbs(at, b, resources)
	var all []grant
	for _, resource := range resources {
		for _, name := range names {
			all = append(all, grant{group: group, resource: resource, name: name, verbs: can})
		}
	}
	return all
}

func (r *reader) apiGroup(at yamlfile.Node) string {
	if !at.Exists() {
		return ""
	}
	name, ok := r.Text(at)
	if ok && !validSubdomain.MatchString(name) {
		r.Refuse(at, "%s is no API group; want its name, as apps, and leave it out for the core group, which has pods, services and configmaps", yamlfile.Quote(name))
	}
	return name
}

// list is what a list of names is of.
type list struct {
	what string
	most int
	form *regexp.Regexp
	like string
}

func (r *reader) list(at yamlfile.Node, items []yamlfile.Node, of list) []string {
	switch {
	case len(items) == 0:
		r.Refuse(at, "no %s is named; name what the task needs, as %s", of.what, of.like)
	case len(items) > of.most:
		r.Refuse(items[of.most], "%d are named here; a rule takes %d at most", len(items), of.most)
		return nil
	}
	var all []string
	for _, item := range items {
		name, ok := r.Text(item)
		switch {
		case !ok:
		case name == "*" || strings.HasSuffix(name, "/*"):
			r.Refuse(item, "* is every %s there is, and every one there will be; name what the task needs", of.what)
		case !of.form.MatchString(name):
			r.Refuse(item, "%s is no %s; want one as %s", yamlfile.Quote(name), of.what, of.like)
		case slices.Contains(all, name):
			r.Refuse(item, "the %s %s is named twice", of.what, name)
		default:
			all = append(all, name)
		}
	}
	return all
}

func (r *reader) verbs(rule yamlfile.Node, b ruleBlock, resources []string) []string {
	if len(b.Verbs) == 0 {
		r.Refuse(rule.Get("verbs"), "no verb is named; name those that the task needs, as [get]")
	}
	var can []string
	for _, at := range b.Verbs {
		verb, ok := r.Text(at)
		switch {
		case !ok:
		case slices.Contains(can, verb):
			r.Refuse(at, "%s is named twice", verb)
		case !slices.Contains(verbs, verb):
			r.Refuse(at, "%s is not a verb that is given to tasks one by one; there is: %s", yamlfile.Quote(verb), strings.Join(verbs, ", "))
		case len(b.Names) > 0 && slices.Contains(unnamed, verb):
			r.Refuse(at, "%s cannot be limited to names: give it in a rule without them, or leave it out", verb)
		default:
			can = append(can, verb)
			r.fits(at, verb, resources)
		}
	}
	return inOrder(can)
}

func (r *reader) fits(at yamlfile.Node, verb string, resources []string) {
	for _, resource := range resources {
		if why := verbFault(resource, verb); why != "" {
			r.Refuse(at, "%s on %s is not given to tasks by a rule: %s", verb, resource, why)
		}
	}
}
