package exec

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// programs there are, and what they take, only the configuration says.
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
		"description":          "A credential that a program of your operator's makes, of those in the configuration.",
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
	}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) map[string]any {
	text := map[string]any{"type": "string", "minLength": 1}
	switch key {
	case "program":
		return described("The program's name in the configuration.", map[string]any{"anyOf": []any{
			map[string]any{"type": "string", "pattern": ecma(programName.String())},
			map[string]any{"type": "string", "pattern": `\$\{`}, // what comes of it is not known before somebody asks
		}})
	case "parameters":
		return described("What the program is given. The configuration says which parameters it has and what they can be.", map[string]any{
			"type": "object", "maxProperties": maxParameters,
			"propertyNames": map[string]any{"pattern": ecma(parameterName.String())},
			"additionalProperties": map[string]any{"anyOf": []any{
				text, map[string]any{"type": "array", "minItems": 1, "maxItems": mostItems, "uniqueItems": true, "items": text},
			}},
		})
	}
	return nil
}

func described(words string, schema map[string]any) map[string]any {
	schema["description"] = words
	return schema
}

// ecma spells the ends of a text as JSON Schema does.
func ecma(pattern string) string {
	return strings.NewReplacer(`\A`, `^`, `\z`, `$`).Replace(pattern)
}
