package registry_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func limited() *registry.Backend {
	return registry.New(registry.Options{Limits: limits("registry.example.com")})
}

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	const end = "; in the registry registry.example.com; its end refuses the login at once, a token that is out is taken for up to 2 minutes more"
	for block, want := range map[string]string{
		`{repositories: [acme/widget], actions: [push, pull]}`:                                       "pull and push acme/widget",
		`{repositories: [tools], actions: [delete]}`:                                                 "delete tools",
		`{repositories: [acme/b, acme/a], actions: [pull, push], pull_from: [acme/0]}`:               "pull acme/0; pull and push acme/a, acme/b",
		`{repositories: [acme/a, acme/b, acme/c/d, acme/e_f, acme/g--h, acme/i.j], actions: [pull]}`: "pull acme/a, acme/b, acme/c/d, acme/e_f, acme/g--h and 1 more",
	} {
		scope, err := limited().Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want+end {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want+end)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	for _, c := range []struct{ block, at, says string }{
		{`[acme/widget]`, "2:13", "want which repositories"},
		{`{repositories: [acme/widget]}`, "2:13", `missing: "actions"`},
		{`{repositories: [], actions: [pull]}`, "2:28", "no login for all"},
		{`{repositories: [tool], actions: [pull]}`, "2:29", `did you mean "tools"?`},
		{`{repositories: [elsewhere/widget], actions: [pull]}`, "2:29", "add it under backends, registry, repositories"},
		{`{repositories: ["acme/widget:v1"], actions: [pull]}`, "2:29", "without registry, tag and digest"},
		{`{repositories: [acme/a, acme/a], actions: [pull]}`, "2:37", "named twice"},
		{`{repositories: [acme/a], actions: [push]}`, "2:47", "write [pull, push]"},
		{`{repositories: [acme/a], actions: ["*"]}`, "2:48", "want an action of delete, pull, push"},
		{`{repositories: [acme/a], actions: []}`, "2:47", "no action is named"},
		{`{repositories: [acme/a], actions: [pull], pull_from: [acme/a]}`, "2:67", "named twice"},
		{`{repositories: [acme/a], actions: [pull], digest: x}`, "2:55", "unknown key"},
		{`{repositories: [acme/` + strings.Join(slices.Repeat([]string{"a"}, 17), ", acme/") + `], actions: [pull]}`, "2:157", "17 repositories are named"},
	} {
		scope, err := limited().Scope(node(t, c.block))
		faults := yamlfile.Faults(err)
		if len(faults) == 0 {
			t.Errorf("%s: accepted as %v, or refused without a place: %v", c.block, scope, err)
			continue
		}
		at := fmt.Sprintf("%d:%d", faults[0].Line, faults[0].Column)
		if !slices.ContainsFunc(faults, func(f *yamlfile.Error) bool { return strings.Contains(f.Message, c.says) }) || at != c.at {
			t.Errorf("%s\n  is refused at %s: %s\n  want         at %s: …%s…", c.block, at, faults[0].Message, c.at, c.says)
		}
	}
}

// A thousand names and more, of all that names of images are made of: what is taken is one
// whole name, in the registry's own grammar, below what the operator gave.
func TestHostileNamesAreRefusedOrWhollyNames(t *testing.T) {
	part := regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
	pieces := rapid.SampledFrom([]string{"acme", "acme/", "/", "tools", "a", "..", ".", "_", "__", "___", "-", ":", "@", "*", "%2f", "A", " ", "\n", "\x00", "é", "\u202e", "sha256:", ",", "9", "latest", `"`, "'", `\`})
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			name := strings.Join(rapid.SliceOfN(pieces, 1, 6).Draw(t, "pieces"), "")
			if rapid.Bool().Draw(t, "below") {
				name = "acme/" + name
			}
			text, err := json.Marshal(map[string]any{"repositories": []string{name}, "actions": []string{"pull"}})
			if err != nil {
				t.Fatal(err)
			}
			root, err := yamlfile.ParseJSON("task.json", text)
			if err != nil {
				continue
			}
			scope, err := limited().Scope(root)
			if err != nil {
				if len(yamlfile.Faults(err)) == 0 {
					t.Fatalf("%q is refused without a place: %v", name, err)
				}
				continue
			}
			taken++
			whole := !slices.ContainsFunc(strings.Split(name, "/"), func(p string) bool { return !part.MatchString(p) })
			if !whole || name != "tools" && !strings.HasPrefix(name, "acme/") {
				t.Fatalf("%q is taken as %s", name, scope)
			}
		}
	})
	if taken == 0 {
		t.Error("nothing is taken, so this shows nothing")
	}
}

// drawn is a block, and what it allows by its own word.
type drawn struct{ repositories, actions, from []string }

func draw(t *rapid.T, label string) drawn {
	names := []string{"acme/a", "acme/b", "tools"}
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID[string]).Draw(t, label+" repositories")
	rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(some, n) })
	d := drawn{repositories: some, actions: rapid.SampledFrom([][]string{{"pull"}, {"delete"}, {"push", "pull"}, {"pull", "delete"}, {"delete", "pull", "push"}}).Draw(t, label+" actions")}
	if len(rest) > 0 && rapid.Bool().Draw(t, label+" from") {
		d.from = rest[:rapid.IntRange(1, len(rest)).Draw(t, label+" how many")]
	}
	return d
}

func (d drawn) allows(name, action string) bool {
	return slices.Contains(d.repositories, name) && slices.Contains(d.actions, action) || slices.Contains(d.from, name) && action == "pull"
}

func (d drawn) read(t *rapid.T) backend.Scope {
	block := map[string]any{"repositories": d.repositories, "actions": d.actions}
	if d.from != nil {
		block["pull_from"] = d.from
	}
	text, err := json.Marshal(block)
	if err != nil {
		t.Fatal(err)
	}
	root, err := yamlfile.ParseJSON("task.json", text)
	if err != nil {
		t.Fatal(err)
	}
	scope, err := limited().Scope(root)
	if err != nil {
		t.Fatal(err)
	}
	return scope
}

// Covers is held against every single thing that can be done.
func TestAScopeCoversExactlyWhatItAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		want := true
		for _, name := range []string{"acme/a", "acme/b", "tools"} {
			for _, action := range []string{"delete", "pull", "push"} {
				want = want && (a.allows(name, action) || !b.allows(name, action))
			}
		}
		if got := a.read(t).Covers(b.read(t)); got != want {
			t.Fatalf("%s covers %s: %t", a.read(t), b.read(t), got)
		}
	})
}

func TestAScopeOfAnotherRegistryIsNotCovered(t *testing.T) {
	block := node(t, "{repositories: [tools], actions: [pull]}")
	one, err := limited().Scope(block)
	if err != nil {
		t.Fatal(err)
	}
	other, err := registry.New(registry.Options{Limits: limits("other.example.com")}).Scope(block)
	if err != nil {
		t.Fatal(err)
	}
	if one.Covers(other) || other.Covers(one) {
		t.Error("it is")
	}
}

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, registry.New(registry.Options{}),
		`{"repositories":["acme/widget"],"actions":["pull","push"]}`, `{"repositories":["a","b/c.d_e--f"],"actions":["delete"],"pull_from":["x__y"]}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	for _, key := range yamlfile.KeysOf[registry.Block]() {
		if schema, _ := registry.KeySchema(key.Name).(map[string]any); schema["description"] == nil {
			t.Errorf("the key %s has no words", key.Name)
		}
	}
	backendtest.SchemaTakes(t, limited(), map[string]bool{
		`{"repositories":["acme/${claims.repository_id}"],"actions":["${inputs.action}"],"pull_from":["${inputs.base}"]}`: true,
		`{"repositories":[],"actions":["pull"]}`: false, `{"repositories":["A"],"actions":["pull"]}`: false, `{"actions":["pull"]}`: false,
		`{"repositories":["a"],"actions":["*"]}`: false, `{"repositories":["a"],"actions":["pull"],"tag":"v1"}`: false,
		`{"repositories":["a:b"],"actions":["pull"]}`: false, `{"repositories":["a"],"actions":["pull","pull"]}`: false,
	})
}
