package vault_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func schemaOf(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(vault.New(vault.Options{}).BlockSchema())
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
		`{"policies":["deploy-web"]}`, `{"policies":["a","b/c.d_e"],"role":"stepkey","uses":5}`, `{"policies":["a"],"uses":10000}`,
	} {
		f.Add([]byte(block))
	}
	schema, b := schemaOf(f), vault.New(vault.Options{})
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
		`{"policies":["web-${inputs.stage}"],"role":"${inputs.role}","uses":3}`: true,
		`{"policies":[]}`: false, `{"policies":["ROOT"]}`: false, `{"role":"a"}`: false, `{"policies":["a"],"uses":0}`: false,
		`{"policies":["a"],"ttl":"5m"}`: false, `{"policies":["a","a"]}`: false, `{"policies":["a"],"role":"a/b"}`: false,
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
