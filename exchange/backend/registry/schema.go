package registry

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// repositories there are, only the configuration says.
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
		"description":          "A login to a container registry, for these repositories and actions alone. Its end refuses the login at once; a token that is out is taken for up to 2 minutes more.",
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
	}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) map[string]any {
	name := map[string]any{"type": "string", "maxLength": maxName, "pattern": ecma(validName.String())}
	switch key {
	case "repositories":
		return listOf("Whole names of repositories, without registry, tag and digest, of those that the configuration allows.", maxRepositories, name)
	case "actions":
		return listOf("What may be done with the repositories. The registry wants pull too of whoever pushes.", len(actions), map[string]any{"enum": actions})
	case "pull_from":
		return listOf("Repositories that are only pulled from, beside those.", maxRepositories, name)
	}
	return nil
}

// listOf also takes texts that hold an expression: what comes of that is not known before
// somebody asks.
func listOf(words string, most int, one map[string]any) map[string]any {
	return map[string]any{
		"description": words, "type": "array", "minItems": 1, "maxItems": most, "uniqueItems": true,
		"items": map[string]any{"anyOf": []any{one, map[string]any{"type": "string", "pattern": `\$\{`}}},
	}
}

// ecma spells the ends of a text as JSON Schema does.
func ecma(pattern string) string {
	return strings.NewReplacer(`\A`, `^`, `\z`, `$`).Replace(pattern)
}
