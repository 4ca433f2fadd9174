package registry

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// repositories there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	return backend.Described("A login to a container registry, for these repositories and actions alone. Its end refuses the login at once; a token that is out is taken for up to 2 minutes more.",
		backend.SchemaOf[block](keySchema))
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	name := map[string]any{"type": "string", "maxLength": maxName, "pattern": backend.Pattern(validName)}
	switch key {
	case "repositories":
		return backend.Described("Whole names of repositories, without registry, tag and digest, of those that the configuration allows.", listOf(maxRepositories, name))
	case "actions":
		return backend.Described("What may be done with the repositories. The registry wants pull too of whoever pushes.", listOf(len(actions), map[string]any{"enum": actions}))
	case "pull_from":
		return backend.Described("Repositories that are only pulled from, beside those.", listOf(maxRepositories, name))
	}
	return nil
}

func listOf(most int, one map[string]any) map[string]any {
	return map[string]any{"type": "array", "minItems": 1, "maxItems": most, "uniqueItems": true, "items": backend.OrFilled(one)}
}
