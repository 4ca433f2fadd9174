package vault

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// policies and roles there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, key := range yamlfile.KeysOf[block]() {
		properties[key.Name] = keySchema(key.Name)
		if key.Required {
			required = append(required, key.Name)
		}
	}
	return map[string]any{
		"type":                 "object",
		"description":          "A token of Vault or OpenBao with these policies alone, which cannot be renewed.",
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
	}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) map[string]any {
	switch key {
	case "policies":
		return described("The token's policies, of those that the configuration allows. It has no other, also not default.", map[string]any{
			"type": "array", "minItems": 1, "maxItems": maxPolicies, "uniqueItems": true, "items": named(validPolicy.String()),
		})
	case "role":
		return described("The token role that makes it, of those in the configuration.", named(validRole.String()))
	case "uses":
		return described("How many requests the token is good for. Any number if left out.",
			map[string]any{"type": "integer", "minimum": 1, "maximum": maxUses})
	}
	return nil
}

func described(words string, schema map[string]any) map[string]any {
	schema["description"] = words
	return schema
}

// named is a name, or a text that holds an expression: what comes of that is not known
// before somebody asks.
func named(pattern string) map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "string", "pattern": strings.NewReplacer(`\A`, `^`, `\z`, `$`).Replace(pattern)},
		map[string]any{"type": "string", "pattern": `\$\{`},
	}}
}
