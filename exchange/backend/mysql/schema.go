package mysql

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// databases and roles there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	s := backend.SchemaOf[block](keySchema)
	s["description"] = "A user of the task's own on a MariaDB or MySQL server. Its end ends open sessions, too."
	s["oneOf"] = []any{
		map[string]any{"required": []string{"role"}},
		map[string]any{"required": []string{"grants"}},
	}
	return s
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "database":
		return backend.Described("The database that sessions begin in, of those that the configuration allows.", nameSchema())
	case "role":
		return backend.Described("A role that the user has and acts in from the start, of those that the configuration allows. Instead of grants.", nameSchema())
	case "grants":
		return backend.Described("What may be done with which tables. Instead of a role.", map[string]any{
			"type": "array", "minItems": 1, "maxItems": maxGrants, "items": backend.SchemaOf[grantBlock](grantKey),
		})
	case "connections":
		return backend.Described("How many connections there may be at the same time; 2 if left out.",
			map[string]any{"type": "integer", "minimum": 1, "maximum": maxConnections})
	}
	return nil
}

func grantKey(key string) any {
	switch key {
	case "database":
		return backend.Described("The database that they are in, if it is another than the task's.", nameSchema())
	case "tables":
		return backend.Described("Tables and views by name, or the word all: those of the database, also those that come later.", backend.OrFilled(
			map[string]any{"const": everything},
			map[string]any{"type": "array", "minItems": 1, "maxItems": maxTables, "uniqueItems": true, "items": nameSchema()},
		))
	case "privileges":
		return backend.Described("select, insert, update, delete; with tables: all also lock tables.", map[string]any{
			"type": "array", "minItems": 1, "uniqueItems": true, "items": backend.OrFilled(map[string]any{"enum": ofAll}),
		})
	}
	return nil
}

func nameSchema() map[string]any {
	return backend.OrFilled(map[string]any{"type": "string", "minLength": 1, "maxLength": maxName})
}
