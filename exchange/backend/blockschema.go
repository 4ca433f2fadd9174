package backend

import (
	"regexp"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// SchemaOf is a JSON Schema (draft 2020-12) of a block that is read into a T: the reader's
// keys, and no other. A key that of does not know gets null, which no reader of schemas
// takes.
func SchemaOf[T any](of func(key string) any) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, key := range yamlfile.KeysOf[T]() {
		properties[key.Name] = of(key.Name)
		if key.Required {
			required = append(required, key.Name)
		}
	}
	o := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

// Described adds words for people to a schema.
func Described(words string, schema map[string]any) map[string]any {
	schema["description"] = words
	return schema
}

// Matching is the schema of a text that an expression of ours matches.
func Matching(re *regexp.Regexp) map[string]any {
	return map[string]any{"type": "string", "pattern": Pattern(re)}
}

// Pattern spells an expression of ours as JSON Schema does: the ends of a text are those
// of ECMA-262.
func Pattern(re *regexp.Regexp) string {
	return strings.NewReplacer(`\A`, `^`, `\z`, `$`).Replace(re.String())
}

// OrFilled is what one of some schemas takes, or a text that holds an expression: what
// comes of that is not known before somebody asks.
func OrFilled(schemas ...any) map[string]any {
	return map[string]any{"anyOf": append(schemas, map[string]any{"type": "string", "pattern": `\$\{`})}
}
