package policy_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

func TestWhatStandsInABlockIsFilledForEachWhoAsks(t *testing.T) {
	const anyText = "name: {pattern: '.*', example: x}\nlevel: {enum: [read, write], default: read}\nn: {type: number, min: -5, max: 5, default: 1}"
	for name, c := range map[string]struct {
		repository, permission string
		change                 identity.Claims
		given                  string // for name
		scope, why             string
	}{
		"a claim":                  {repository: "${claims.run_id}", scope: "read on acme/7"},
		"in the middle":            {repository: "w-${claims.run_id}-${inputs.name}.x", given: "b", scope: "read on acme/w-7-b.x"},
		"a number":                 {repository: "${inputs.n + 41}", scope: "read on acme/42"},
		"a choice":                 {repository: `${claims.ref.startsWith("refs/tags/") ? "tagged" : "other"}`, scope: "read on acme/tagged"},
		"brackets and quotes":      {repository: `${{"}": "a"}["}"]}-${'}' == "'" ? "c" : "b"}`, scope: "read on acme/a-b"},
		"a path":                   {repository: "x/${path(claims.ref)}/y", scope: "read on acme/x/refs/tags/v1.2.3/y"},
		"nothing but a sign":       {repository: "$${claims.run_id}", scope: "read on acme/${claims.run_id}"},
		"a sign and an expression": {repository: "$$${x}$${claims.run_id}", scope: "read on acme/$${x}${claims.run_id}"},
		"dollars":                  {repository: "$5 $", scope: "read on acme/$5 $"},
		"by an input":              {repository: "w", permission: "${inputs.level}", scope: "read on acme/w"},
		"absent":                   {repository: "${claims.head_ref}", why: `"${claims.head_ref}": no such claim: head_ref`},
		"an empty claim":           {repository: "p-${claims.head_ref}", change: identity.Claims{"head_ref": ""}, why: "it gives empty text"},
		"a slash":                  {repository: "${inputs.name}", given: "a/b", why: `it gives "a/b", which holds a /; if a path is meant`},
		"up":                       {repository: "${inputs.name}", given: "..", why: "may only give letters"},
		"up inside":                {repository: "${inputs.name}", given: "a..b", why: "may only give letters"},
		"hidden":                   {repository: "${inputs.name}", given: ".git", why: "may only give letters"},
		"a star":                   {repository: "${inputs.name}", given: "*", why: "may only give letters"},
		"a list":                   {repository: "${inputs.name}", given: "a,b", why: "may only give letters"},
		"YAML":                     {repository: "${inputs.name}", given: "x, repositories: [y]", why: "may only give letters"},
		"an option":                {repository: "${inputs.name}", given: "-rf", why: "may only give letters"},
		"a letter that looks so":   {repository: "${inputs.name}", given: "\u0430cme", why: "may only give letters"},
		"an expression":            {repository: "${inputs.name}", given: "${claims.ref}", why: "may only give letters"},
		"too long":                 {repository: "${inputs.name + inputs.name}", given: strings.Repeat("x", 150), why: "it gives 300 bytes; at most 256"},
		"a negative number":        {repository: `${claims.run_attempt == "1" ? 5 : -2}`, change: identity.Claims{"run_attempt": "2"}, why: "may only give letters"},
		"a path out":               {repository: "${path(inputs.name)}", given: "a/../b", why: "between its slashes may only stand"},
		"a path from the root":     {repository: "${path(inputs.name)}", given: "/a", why: "between its slashes may only stand"},
		"a path with a gap":        {repository: "${path(inputs.name)}", given: "a//b", why: "between its slashes may only stand"},
		"a path that stays open":   {repository: "${path(inputs.name)}", given: "a/", why: "between its slashes may only stand"},
		"what the backend refuses": {repository: "w", permission: `${inputs.name == "x" ? "read" : inputs.name}`, given: "admin",
			why: "the task's block does not accept what came of the claims and inputs: contents takes read or write"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.permission == "" {
				c.permission = "read"
			}
			if c.given == "" {
				c.given = "x"
			}
			block := "owner: acme\nrepositories:\n  - '" + strings.ReplaceAll(c.repository, "'", "''") + "'\npermissions:\n  contents: '" + c.permission + "'"
			set := setOf(t, taskOf("", anyText, block))
			who := release(identity.Claims{"run_id": "7"})
			for claim, value := range c.change {
				who.Claims[claim] = value
			}
			grant, err := set.Authorize(who, policy.Asked{Task: "t", Inputs: map[string]string{"name": c.given}})
			var denial *policy.Denial
			switch errors.As(err, &denial); {
			case c.why == "" && (err != nil || grant.Scope.String() != "contents: "+c.scope):
				t.Errorf("got %v, %v", grant.Scope, err)
			case c.why != "" && (denial == nil || !strings.Contains(denial.Asked, c.why)):
				t.Errorf("got %v, %v; want %s", grant.Scope, err, c.why)
			}
		})
	}
}

func TestATemplatedTaskSaysThatItsScopeIsAnExample(t *testing.T) {
	task := setOf(t, taskOf("", "level: {enum: [read, write]}", "owner: acme\npermissions: {contents: '${inputs.level}'}")).Tasks()[0]
	if !task.Templated || task.Gives() != "by claims and inputs, such as contents: read on acme/" {
		t.Errorf("templated %t: %s", task.Templated, task.Gives())
	}
	task = setOf(t, taskOf("", "", "owner: acme\nrepositories: ['$${x}']\npermissions: {contents: read}")).Tasks()[0]
	if task.Templated || task.Gives() != "contents: read on acme/${x}" {
		t.Errorf("templated %t: %s", task.Templated, task.Gives())
	}
}

var harmless = regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9._-]*\z`)

// FuzzTemplate: whatever stands in a block and whatever is given, there is no panic, and
// what comes out of a claim or an input holds nothing that a backend could read more into.
func FuzzTemplate(f *testing.F) {
	for _, seed := range [][3]string{
		{"${inputs.name}", "x", "refs/heads/main"}, {"a-${claims.ref}", "../..", "*"}, {"${path(claims.ref)}", "", "a/../b"}, {"$${x}", "x", ""},
		{"${claims.ref + inputs.name}", ".", "."}, {`${"}"}`, "x", "x"}, {"${'a' + \"b\"}", "x", "x"}, {"${claims.ref", "x", "x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	inputs := "name: {pattern: '(?s:.*)', example: x, max_length: 1000}"
	whole := setOf(f, taskOf("", inputs, "owner: acme\nrepositories: ['${inputs.name}', '${claims.ref_type}']\npermissions: {contents: read}"))
	f.Fuzz(func(t *testing.T, text, given, claim string) {
		who := release(identity.Claims{"ref": claim, "ref_type": claim})
		asked := policy.Asked{Task: "t", Inputs: map[string]string{"name": given}}
		if grant, err := whole.Authorize(who, asked); err == nil {
			for _, part := range strings.Split(strings.TrimPrefix(grant.Scope.String(), "contents: read on acme/"), "+") {
				if !harmless.MatchString(part) || strings.Contains(part, "..") {
					t.Errorf("filled with %q", part)
				}
			}
		}
		if set := setOrNone(taskOf("", inputs, "owner: acme\nrepositories:\n  - "+quoted(text)+"\npermissions: {contents: read}")); set != nil {
			_, _ = set.Authorize(who, asked)
		}
	})
}
