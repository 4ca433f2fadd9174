package backendtest

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Bad is a block that is refused, where its first fault is, as line:column, and some of
// what that says.
type Bad [3]string

// RefusesBlocks holds the refusals of bad blocks against their places and words.
func RefusesBlocks(t *testing.T, read func(block string) (backend.Scope, error), all []Bad) {
	t.Helper()
	if len(all) == 0 {
		t.Error("there are no bad blocks")
	}
	for _, bad := range all {
		block, want, says := bad[0], bad[1], bad[2]
		scope, err := read(block)
		faults := yamlfile.Faults(err)
		if len(faults) == 0 {
			t.Errorf("%.90s: accepted as %v, or refused without a place: %v", block, scope, err)
			continue
		}
		if at := fmt.Sprintf("%d:%d", faults[0].Line, faults[0].Column); at != want || !strings.Contains(faults[0].Message, says) {
			t.Errorf("%.90s\n  is refused at %s: %s\n  want         at %s: …%s…", block, at, faults[0].Message, want, says)
		}
	}
}

// CoversIsAnOrder looks among the scopes that draw makes for three that are in no order.
// Two that cover each other must have the same words.
func CoversIsAnOrder(t *testing.T, draw func(r *rapid.T, label string) backend.Scope, words func(backend.Scope) string) {
	t.Helper()
	rapid.Check(t, func(r *rapid.T) {
		x, y, z := draw(r, "x"), draw(r, "y"), draw(r, "z")
		if !x.Covers(x) {
			r.Fatalf("%s does not cover itself", x)
		}
		if x.Covers(y) && y.Covers(z) && !x.Covers(z) {
			r.Fatalf("%s covers %s, which covers %s, which the first does not cover", x, y, z)
		}
		if x.Covers(y) && y.Covers(x) && words(x) != words(y) {
			r.Fatalf("%s and %s cover each other", x, y)
		}
	})
}

// SchemaHasWords demands words for each key of the block, which are at least so many. A
// new key without would be offered without any.
func SchemaHasWords(t *testing.T, b Described, least int) {
	t.Helper()
	properties, _ := b.BlockSchema()["properties"].(map[string]any)
	if len(properties) < least {
		t.Errorf("it has only %d keys", len(properties))
	}
	for key, of := range properties {
		if schema, _ := of.(map[string]any); schema["description"] == nil {
			t.Errorf("%s has no words", key)
		}
	}
}

// Reader is a backend, as far as it reads blocks.
type Reader interface {
	Scope(backend.Block) (backend.Scope, error)
}

// FuzzBlocks reads any text as a block: it is taken or refused with a place; what is taken
// covers itself and is said on one line, without what is in never; and where no
// configuration is, nothing is refused that is taken with one.
func FuzzBlocks(f *testing.F, known, unknown Reader, never string, seeds ...string) {
	for _, block := range seeds {
		f.Add(block)
	}
	f.Fuzz(func(t *testing.T, block string) {
		root, err := yamlfile.Parse("task.yaml", []byte(block))
		if err != nil {
			return
		}
		scope, err := known.Scope(root)
		if (err == nil) == (scope == nil) || err != nil && len(yamlfile.Faults(err)) == 0 {
			t.Fatalf("%v, %v", scope, err)
		}
		if _, without := unknown.Scope(root); err == nil && without != nil {
			t.Fatalf("taken as %s, and refused where no configuration is: %v", scope, without)
		}
		if err == nil && (!scope.Covers(scope) || strings.ContainsAny(scope.String(), "\n\r\x00\x1b"+never)) {
			t.Fatalf("%q does not cover itself, breaks a line, or holds one of %q", scope, never)
		}
	})
}
