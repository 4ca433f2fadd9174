package backendtest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Described is a backend that tells editors what its block looks like.
type Described interface {
	Scope(backend.Block) (backend.Scope, error)
	BlockSchema() map[string]any
}

// CompiledSchema is what the backend tells editors.
func CompiledSchema(t testing.TB, b Described) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(b.BlockSchema())
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("block.json", decoded(t, text)); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("block.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// FuzzSchema looks for a block that the backend takes and its schema does not: an editor
// that refuses what the exchange takes is believed. blocks, in JSON, are where it begins.
func FuzzSchema(f *testing.F, b Described, blocks ...string) {
	for _, block := range blocks {
		f.Add([]byte(block))
	}
	schema := CompiledSchema(f, b)
	f.Fuzz(func(t *testing.T, block []byte) {
		root, err := yamlfile.ParseJSON("task.json", block)
		if err != nil {
			return
		}
		read, err := jsonschema.UnmarshalJSON(bytes.NewReader(block))
		if err != nil {
			return
		}
		if scope, err := b.Scope(root); err == nil {
			if refused := schema.Validate(read); refused != nil {
				t.Errorf("%s is taken as %s, and the schema says %v", block, scope, refused)
			}
		}
	})
}

// SchemaTakes holds the schema against blocks in JSON, and whether each is to be taken:
// such as have expressions, and such as can never be right.
func SchemaTakes(t *testing.T, b Described, blocks map[string]bool) {
	t.Helper()
	schema := CompiledSchema(t, b)
	for block, taken := range blocks {
		if err := schema.Validate(decoded(t, []byte(block))); (err == nil) != taken {
			t.Errorf("%s: want taken: %t; %v", block, taken, err)
		}
	}
}

func decoded(t testing.TB, text []byte) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}
