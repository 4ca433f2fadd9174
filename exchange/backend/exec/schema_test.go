package exec_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func schemaOf(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(exec.New(exec.Options{}).BlockSchema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("block.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("block.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	for _, block := range []string{
		`{"program":"tokens"}`, `{"program":"tokens","parameters":{"area":"figures","can":["read","write"]}}`,
		`{"program":"t-0","parameters":{"a_1":"ß ${x}"}}`, `{"program":"tokens","parameters":{}}`,
	} {
		f.Add([]byte(block))
	}
	schema, b := schemaOf(f), exec.New(exec.Options{})
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

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	schema := schemaOf(t)
	for block, taken := range map[string]bool{
		`{"program":"${inputs.program}","parameters":{"area":"${claims.ref}","can":["${inputs.can}"]}}`: true,
		`{"program":"Tokens"}`: false, `{"parameters":{}}`: false, `{"program":"t","command":["/bin/sh"]}`: false,
		`{"program":"t","parameters":{"a":[]}}`: false, `{"program":"t","parameters":{"a":7}}`: false, `{"program":"t","parameters":{"A":"a"}}`: false,
	} {
		read, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(block)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(read); (err == nil) != taken {
			t.Errorf("%s: want taken: %t; %v", block, taken, err)
		}
	}
}
