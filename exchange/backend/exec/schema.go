package exec

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// programs there are, and what they take, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	return backend.Described("A credential that a program of your operator's makes, of those in the configuration.", backend.SchemaOf[block](keySchema))
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	text := map[string]any{"type": "string", "minLength": 1}
	switch key {
	case "program":
		return backend.Described("The program's name in the configuration.", backend.OrFilled(backend.Matching(programName)))
	case "parameters":
		return backend.Described("What the program is given. The configuration says which parameters it has and what they can be.", map[string]any{
			"type": "object", "maxProperties": maxParameters,
			"propertyNames": map[string]any{"pattern": backend.Pattern(parameterName)},
			"additionalProperties": map[string]any{"anyOf": []any{
				text, map[string]any{"type": "array", "minItems": 1, "maxItems": mostItems, "uniqueItems": true, "items": text},
			}},
		})
	}
	return nil
}
