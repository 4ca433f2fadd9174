package vault

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	vault:
//	  role: stepkey
//	  policies: [deploy-web]
//	  uses: 5
type block struct {
	Policies []yamlfile.Node `yaml:"policies,required"`
	Role     yamlfile.Node   `yaml:"role"`
	Uses     yamlfile.Node   `yaml:"uses"`
}

const (
	maxPolicies = 32
	maxUses     = 10000
)

// Names as the server compares them: it writes policies in lower case.
var (
	validPolicy = regexp.MustCompile(`\A[a-z0-9][a-z0-9_./-]{0,126}\z`)
	validRole   = regexp.MustCompile(`\A[A-Za-z0-9_]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?\z`)
)

const (
	policyForm = "want a policy's name of a-z, 0-9, _, -, . and /"
	roleForm   = "want a token role's name of letters, digits, _, - and ."
)

// neverPolicies are the server's own, which no token may be given, and root, with which a
// token can do everything.
var neverPolicies = map[string]string{
	"root":              "a token of it can do everything, which is no task",
	"response-wrapping": "the server keeps it for itself",
	"control-group":     "the server keeps it for itself",
}

func badPolicy(name string) string {
	switch {
	case !validPolicy.MatchString(name):
		return policyForm
	case name == "default":
		return "this one would be taken away again (no_default_policy); name what the task needs in a policy of its own"
	}
	return neverPolicies[name]
}

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
		return nil, node.Errorf("want which policies the token has, as vault: {policies: [deploy-web]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{policies: r.policies(), role: r.role(), uses: r.uses()}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) policies() []string {
	switch named := len(r.block.Policies); {
	case named == 0:
		r.Refuse(r.node.Get("policies"), "no policy is named, and the server would give all that the exchange's own token has; name what the task needs, as [deploy-web]")
	case named > maxPolicies:
		r.Refuse(r.block.Policies[maxPolicies], "%d policies are named; a task takes %d at most", named, maxPolicies)
		return nil
	}
	var all []string
	for _, at := range r.block.Policies {
		name, ok := r.Text(at)
		if !ok {
			continue
		}
		if why := badPolicy(name); why != "" {
			r.Refuse(at, "%s; found %s", why, yamlfile.Quote(name))
		} else if slices.Contains(all, name) {
			r.Refuse(at, "the policy %s is named twice", name)
		} else if r.limits.Policies != nil && !slices.Contains(r.limits.Policies, name) {
			r.notConfigured(at, "policy", name, r.limits.Policies)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (r *reader) notConfigured(at yamlfile.Node, what, name string, names []string) {
	if near := yamlfile.Nearest(name, names); near != "" {
		r.Refuse(at, "the %s %s is not one of the configuration's (did you mean %q?)", what, name, near)
		return
	}
	r.Refuse(at, "the %s %s is not one of the configuration's, which are: %s", what, name, strings.Join(names, ", "))
}

func (r *reader) role() string {
	at := r.block.Role
	if !at.Exists() {
		if len(r.limits.Roles) > 0 {
			r.Refuse(r.node, "no role is named, and the configuration has tokens made by one; add role: %s", r.limits.Roles[0])
		}
		return ""
	}
	name, ok := r.Text(at)
	switch {
	case !ok:
	case !validRole.MatchString(name):
		r.Refuse(at, "%s; found %s", roleForm, yamlfile.Quote(name))
	case r.limits.Roles != nil && len(r.limits.Roles) == 0:
		r.Refuse(at, "the configuration names no roles; leave role out, or add it under backends, vault, roles")
	case r.limits.Roles != nil && !slices.Contains(r.limits.Roles, name):
		r.notConfigured(at, "role", name, r.limits.Roles)
	}
	return name
}

func (r *reader) uses() int {
	at := r.block.Uses
	if !at.Exists() {
		return 0
	}
	var uses int
	if err := at.Decode(&uses); err != nil {
		r.Add(err)
	} else if uses < 1 || uses > maxUses {
		r.Refuse(at, "uses is %d; want 1 to %d, or leave it out for any number", uses, maxUses)
	}
	return uses
}
