package kubernetes_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
)

// limited is a backend that reads blocks as a configuration has it.
func limited() *kubernetes.Backend {
	return kubernetes.New(kubernetes.Options{Limits: kubernetes.Limits{Accounts: accounts, Namespaces: map[string]kubernetes.Namespace{
		"web":  {Rules: true, Roles: []string{"deployer"}, ClusterRoles: []string{"view", "system:aggregate-to-view"}, ServiceAccounts: []string{"publisher"}},
		"shop": {Roles: []string{"deployer"}},
	}}})
}

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	for block, want := range map[string]string{
		`{namespace: shop, role: deployer}`:                                                                                   "what the role deployer allows in namespace shop",
		`{namespace: web, cluster_role: "system:aggregate-to-view"}`:                                                          "what the cluster role system:aggregate-to-view allows in namespace web",
		`{namespace: web, service_account: publisher}`:                                                                        "all that the service account publisher of namespace web may do, up to 15 s past its end",
		`{namespace: web, rules: [{resources: [pods], verbs: [watch, get]}]}`:                                                 "get, watch on pods; in namespace web",
		`{namespace: web, rules: [{api_group: apps, resources: [deployments], names: [b, a], verbs: [patch]}]}`:               "patch on deployments.apps named a, b; in namespace web",
		`{namespace: web, rules: [{resources: [pods], verbs: [get]}, {resources: [pods], verbs: [list]}]}`:                    "get, list on pods; in namespace web",
		`{namespace: web, rules: [{resources: [a, b, c, d, e, f, pods/log], verbs: [get]}]}`:                                  "get on a; get on b; get on c; get on d; get on e; and 2 more; in namespace web",
		`{namespace: web, rules: [{resources: [pods], names: [a, b, c, d, e, f], verbs: [get]}]}`:                             "get on pods named a, b, c, d, e and others; in namespace web",
		`{namespace: web, rules: [{resources: [pods], names: [a], verbs: [get]}, {resources: [pods], verbs: [get, create]}]}`: "get, create on pods; in namespace web",
	} {
		scope, err := limited().Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return limited().Scope(node(t, block)) }, []backendtest.Bad{
		{`[web]`, "2:15", "want what may be done where"},
		{`{role: deployer}`, "2:15", `missing: "namespace"`},
		{`{namespace: web}`, "2:15", "found 0"},
		{`{namespace: web, role: deployer, cluster_role: view}`, "2:15", "found 2"},
		{`{namespace: wep, role: deployer}`, "2:27", `did you mean "web"?`},
		{`{namespace: kube-system, role: deployer}`, "2:27", "the cluster's own"},
		{`{namespace: Web, role: deployer}`, "2:27", "want a namespace's name"},
		{`{namespace: web, role: deploier}`, "2:38", `did you mean "deployer"?`},
		{`{namespace: shop, cluster_role: view}`, "2:47", "there it has: none"},
		{`{namespace: shop, rules: [{resources: [pods], verbs: [get]}]}`, "2:33", "add rules: true"},
		{`{namespace: web, cluster_role: cluster-admin}`, "2:46", "everything in the namespace"},
		{`{namespace: web, service_account: stepkey-a}`, "2:49", "those of leases"},
		{`{namespace: web, service_account: "a/b"}`, "2:49", "want a service account's name"},
		{`{namespace: web, role: "a/b"}`, "2:38", "want a role's name"},
		{`{namespace: web, role: 7}`, "2:38", "want text"},
		{`{namespace: web, rules: []}`, "2:39", "there is no rule"},
		{`{namespace: web, rules: [{resources: [pods], verbs: ["*"]}]}`, "2:68", "there is: get, list"},
		{`{namespace: web, rules: [{resources: ["*"], verbs: [get]}]}`, "2:53", "every resource there is"},
		{`{namespace: web, rules: [{resources: [], verbs: [get]}]}`, "2:52", "no resource is named"},
		{`{namespace: web, rules: [{resources: [pods], names: [], verbs: [get]}]}`, "2:67", "no name is named"},
		{`{namespace: web, rules: [{resources: [pods], verbs: []}]}`, "2:67", "no verb is named"},
		{`{namespace: web, rules: [{resources: [pods, pods], verbs: [get]}]}`, "2:59", "named twice"},
		{`{namespace: web, rules: [{resources: [Pods], verbs: [get]}]}`, "2:53", "is no resource"},
		{`{namespace: web, rules: [{resources: [pods], verbs: [get, get]}]}`, "2:73", "named twice"},
		{`{namespace: web, rules: [{api_group: "", resources: [pods], verbs: [get]}]}`, "2:52", "leave it out for the core group"},
		{`{namespace: web, rules: [{resources: [pods], names: [a], verbs: [create]}]}`, "2:80", "cannot be limited to names"},
		{`{namespace: web, rules: [{resources: [secrets], verbs: [get, update]}]}`, "2:76", "everlasting token"},
		{`{namespace: web, rules: [{resources: [serviceaccounts/token], verbs: [create]}]}`, "2:85", "tokens and certificates"},
		{`{namespace: web, rules: [{resources: [serviceaccounts], verbs: [create]}]}`, "2:79", "may only be read"},
		{`{namespace: web, rules: [{resources: [pods], verbs: [get], extra: 1}]}`, "2:74", "unknown key"},
		{`{namespace: web, rules: [` + strings.Repeat("{resources: [pods], verbs: [get]}, ", 16) + `{resources: [pods], verbs: [get]}]}`, "2:600", "17 rules"},
	})
}

func TestWithoutAConfigurationAnyNameIsTakenThatSomethingCouldHave(t *testing.T) {
	b := kubernetes.New(kubernetes.Options{})
	for block, taken := range map[string]bool{
		`{namespace: any, role: any}`: true, `{namespace: any, rules: [{resources: [pods], verbs: [get]}]}`: true, `{namespace: any, service_account: a.b}`: true,
		`{namespace: kube-system, role: any}`: false, `{namespace: any, cluster_role: cluster-admin}`: false, `{namespace: a.b, role: any}`: false,
	} {
		if _, err := b.Scope(node(t, block)); (err == nil) != taken {
			t.Errorf("%s: %v", block, err)
		}
	}
}

func TestCoversIsAnOrder(t *testing.T) {
	b := limited()
	some := func(r *rapid.T, of []string, label string) string {
		return "[" + strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 2, rapid.ID[string]).Draw(r, label), ", ") + "]"
	}
	backendtest.CoversIsAnOrder(t, func(r *rapid.T, label string) backend.Scope {
		block := rapid.SampledFrom([]string{"{namespace: web, role: deployer}", "{namespace: shop, role: deployer}", "{namespace: web, cluster_role: view}",
			"{namespace: web, service_account: publisher}", "", "", "", "", "", "", "", ""}).Draw(r, label)
		if block == "" {
			var rules []string
			for i := range rapid.IntRange(1, 3).Draw(r, label+" rules") {
				at := fmt.Sprintf("%s rule %d", label, i)
				rule := "{resources: " + some(r, []string{"pods", "services"}, at+" resources") + ", verbs: " + some(r, []string{"get", "patch", "delete"}, at+" verbs")
				if rapid.Bool().Draw(r, at+" named") {
					rule += ", names: " + some(r, []string{"a", "b"}, at+" names")
				}
				rules = append(rules, rule+"}")
			}
			block = "{namespace: web, rules: [" + strings.Join(rules, ", ") + "]}"
		}
		scope, err := b.Scope(node(t, block))
		if err != nil {
			r.Fatal(err)
		}
		return scope
	}, backend.Scope.String)
}

// One on all of a kind covers one on some of them by name, and the words may differ.
func TestNamesAreCoveredByAll(t *testing.T) {
	b := limited()
	read := func(rules string) backend.Scope {
		scope, err := b.Scope(node(t, "{namespace: web, rules: ["+rules+"]}"))
		if err != nil {
			t.Fatal(err)
		}
		return scope
	}
	all, some, one := read("{resources: [pods], verbs: [get, list]}"), read("{resources: [pods], names: [a, b], verbs: [get]}"), read("{resources: [pods], names: [a], verbs: [get]}")
	grouped := read("{api_group: apps, resources: [pods], verbs: [get, list]}")
	if !all.Covers(some) || !some.Covers(one) || !all.Covers(one) || one.Covers(some) || some.Covers(all) || all.Covers(grouped) || grouped.Covers(all) {
		t.Error("names are not covered as they should be")
	}
}

func FuzzBlocks(f *testing.F) {
	backendtest.FuzzBlocks(f, limited(), kubernetes.New(kubernetes.Options{}), "*", append(slices.Collect(maps.Values(hostile)),
		"namespace: web\nrules: [{api_group: apps, resources: [deployments], names: [web], verbs: [get, patch]}]")...)
}
