package ssh_test

import (
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
)

// An editor that refuses what the reader takes is believed; so it never does, and what
// it can see of what the reader refuses it refuses, too.
func TestTheSchemaTakesWhatTheReaderTakes(t *testing.T) {
	schema := backendtest.CompiledSchema(t, anything())
	takes := func(t interface{ Fatal(...any) }, block string) bool {
		var value any
		if err := yaml.Unmarshal([]byte(block), &value); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value) == nil
	}
	rapid.Check(t, func(t *rapid.T) {
		if block := draw(t, "x").block(); !takes(t, block) {
			t.Fatalf("the schema refuses %s", block)
		}
	})
	for _, block := range []string{good, narrower, wider,
		`{principals: ["${claims.ref}"], hosts: ["${inputs.host}.example.com"], force_command: "${inputs.what}", source_address: ["${inputs.from}"], extensions: []}`,
		`{principals: [deploy@web1], hosts: ["203.0.113.7", "2001:db8::1", "[2001:db8::1]:2022"], force_command: internal-sftp}`,
	} {
		if !takes(t, block) {
			t.Errorf("the schema refuses %s", block)
		}
	}
	for _, name := range []string{"no principal", "principals absent", "every principal", "two principals in one", "no host", "every host",
		"an empty command", "a command found by its name", "a command of two lines", "no address", "an address with a name", "an unknown extension", "an unknown key"} {
		if takes(t, hostile[name]) {
			t.Errorf("the schema takes %s:\n%s", name, hostile[name])
		}
	}
}

// A new key of the block without words for it would be offered without any.
func TestTheSchemaHasWordsForEveryKeyOfTheBlock(t *testing.T) {
	properties, _ := anything().BlockSchema()["properties"].(map[string]any)
	if len(properties) != 5 {
		t.Errorf("it has %d keys", len(properties))
	}
	for key, of := range properties {
		if schema, _ := of.(map[string]any); schema["description"] == nil {
			t.Errorf("%s has no words", key)
		}
	}
}
