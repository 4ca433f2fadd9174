package github

import "testing"

func TestAScopeKnowsWhetherItStaysInOneRepository(t *testing.T) {
	write := map[string]string{"contents": "write", "metadata": "read"}
	for name, c := range map[string]struct {
		scope *scope
		want  bool
	}{
		"its id":                         {&scope{repositories: []repository{{id: 7}}, permissions: write}, true},
		"its id, whatever stands beside": {&scope{repositories: []repository{{id: 7, owner: "acme", name: "old", byWords: true}}, permissions: write}, true},
		"its name":                       {&scope{repositories: []repository{{owner: "acme", name: "widget"}}, permissions: write}, true},
		"its name in another case":       {&scope{repositories: []repository{{owner: "ACME", name: "Widget"}}, permissions: write}, true},
		"both":                           {&scope{repositories: []repository{{id: 7}, {owner: "acme", name: "widget"}}, permissions: write}, true},
		"another id under its name":      {&scope{repositories: []repository{{id: 8, owner: "acme", name: "widget", byWords: true}}, permissions: write}, false},
		"another name":                   {&scope{repositories: []repository{{owner: "acme", name: "gadget"}}, permissions: write}, false},
		"another owner's":                {&scope{repositories: []repository{{owner: "example", name: "widget"}}, permissions: write}, false},
		"no owner":                       {&scope{repositories: []repository{{name: "widget"}}, permissions: write}, false},
		"itself and another":             {&scope{repositories: []repository{{id: 7}, {id: 8}}, permissions: write}, false},
		"no repository, which is all":    {&scope{permissions: write}, false},
		"no permission, which is all":    {&scope{repositories: []repository{{id: 7}}}, false},
		"an organization's":              {&scope{repositories: []repository{{id: 7}}, permissions: map[string]string{"contents": "read", "organization_secrets": "read"}}, false},
		"an organization's by no prefix": {&scope{repositories: []repository{{id: 7}}, permissions: map[string]string{"members": "read"}}, false},
		"nothing":                        {nil, false},
	} {
		if got := c.scope.OnlyRepository(7, "acme", "widget"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
