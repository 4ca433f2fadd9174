package postgres

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// databases and roles there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	block := object[block](keySchema)
	block["description"] = "A login role of the task's own in one database. Its end ends open sessions, too."
	block["oneOf"] = []any{
		map[string]any{"required": []string{"role"}},
		map[string]any{"required": []string{"grants"}},
	}
	return block
}

func object[T any](of func(key string) any) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, key := range yamlfile.KeysOf[T]() {
		properties[key.Name] = of(key.Name)
		if key.Required {
			required = append(required, key.Name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "database":
		return described("The one database that the role logs in to, of those that the configuration allows.", nameSchema())
	case "role":
		return described("A role that the login role is a member of, and acts as, of those that the configuration allows. Instead of grants.", nameSchema())
	case "grants":
		return described("What may be done with which tables and sequences. Instead of a role.", map[string]any{
			"type": "array", "minItems": 1, "maxItems": maxGrants, "items": grantSchema(),
		})
	case "connections":
		return described("How many connections there may be at the same time; 2 if left out.",
			map[string]any{"type": "integer", "minimum": 1, "maximum": maxConnections})
	}
	return nil
}

func grantSchema() map[string]any {
	grant := object[grantBlock](grantKey)
	grant["oneOf"] = []any{of(tables), of(sequences)}
	return grant
}

// of is a grant on one kind of object, with the privileges of that kind.
func of(k kind) map[string]any {
	return map[string]any{
		"required":   []string{strings.ToLower(string(k)) + "s"},
		"properties": map[string]any{"privileges": map[string]any{"items": orFilled(map[string]any{"enum": privileges[k]})}},
	}
}

func grantKey(key string) any {
	switch key {
	case "schema":
		return described("The schema that they are in, as public.", nameSchema())
	case "tables":
		return described("Tables and views by name, or the word all: those that are in the schema when it is issued.", objectsSchema())
	case "sequences":
		return described("Sequences by name, or the word all. To insert into a table with a serial column takes usage on its sequence.", objectsSchema())
	case "privileges":
		return described("Of tables: select, insert, update, delete, truncate. Of sequences: usage, select, update.",
			map[string]any{"type": "array", "minItems": 1, "uniqueItems": true})
	}
	return nil
}

func objectsSchema() map[string]any {
	return orFilled(
		map[string]any{"const": everything},
		map[string]any{"type": "array", "minItems": 1, "maxItems": maxObjects, "uniqueItems": true, "items": nameSchema()},
	)
}

// nameSchema leaves to Scope what it says of bytes: a schema counts characters.
func nameSchema() map[string]any {
	return orFilled(map[string]any{"type": "string", "minLength": 1, "maxLength": maxName})
}

func described(words string, schema map[string]any) map[string]any {
	schema["description"] = words
	return schema
}

// orFilled is what one of some schemas takes, or a text that holds an expression: what
// comes of that is not known before somebody asks.
func orFilled(schemas ...any) map[string]any {
	return map[string]any{"anyOf": append(schemas, map[string]any{"type": "string", "pattern": `\$\{`})}
}
