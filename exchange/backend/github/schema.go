package github

import (
	"strings"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// What githubapp.ValidOwner and githubapp.ValidRepository take, in the regular
// expressions of JSON Schema; a test holds them together.
const (
	ownerPattern         = `^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`
	repositoryPattern    = `^[A-Za-z0-9._-]{1,100}$`
	notRepositoryPattern = `(^\.{1,2}$)|(\.[Gg][Ii][Tt]$)`
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. That a
// name without an id needs an owner depends on the configuration, and is not in it.
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
		"description":          "A token of your GitHub App, for these repositories and with these permissions alone.",
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
		"anyOf": []any{
			map[string]any{"required": []string{"repository_ids"}, "properties": map[string]any{"repository_ids": map[string]any{"minItems": 1}}},
			map[string]any{"required": []string{"repositories"}, "properties": map[string]any{"repositories": map[string]any{"minItems": 1}}},
		},
	}
}

// filled is a text that holds an expression. What comes of it is not known before
// somebody asks.
func filled() map[string]any { return map[string]any{"type": "string", "pattern": `\$\{`} }

// orFilled is what one of some schemas takes, or a text that holds an expression.
func orFilled(schemas ...any) map[string]any {
	return map[string]any{"anyOf": append(schemas, filled())}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) map[string]any {
	switch key {
	case "owner":
		return described("The organization or user that the repositories belong to. The configuration's owner if left out.",
			orFilled(map[string]any{"type": "string", "pattern": ownerPattern}))
	case "repositories":
		return described("Names of repositories, without the owner. Beside repository_ids, in the same order, they are words for people.",
			listOf(map[string]any{"type": "string", "pattern": repositoryPattern, "not": map[string]any{"pattern": notRepositoryPattern}}))
	case "repository_ids":
		return described("Numbers of repositories, which stay the same when a name changes. GET /repos/OWNER/NAME has them as id.",
			listOf(map[string]any{"type": "integer", "minimum": 1}, map[string]any{"type": "string", "pattern": `^[1-9][0-9]{0,18}$`}))
	case "permissions":
		return permissionsSchema()
	}
	return nil
}

func described(words string, schema map[string]any) map[string]any {
	schema["description"] = words
	return schema
}

func listOf(schemas ...any) map[string]any {
	return map[string]any{"type": "array", "maxItems": githubapp.MaxRepositories, "uniqueItems": true, "items": orFilled(schemas...)}
}

func permissionsSchema() map[string]any {
	levels := map[string]any{}
	for _, p := range permissions {
		known := strings.Fields(p.levels)
		words := "The App's permission for " + strings.ReplaceAll(p.name, "_", " ") + ": " + strings.Join(known, " or ") + "."
		levels[p.name] = described(words, orFilled(map[string]any{"enum": known}))
	}
	return map[string]any{
		"type":                 "object",
		"description":          "What the token may do. Each level includes the lower ones.",
		"minProperties":        1,
		"properties":           levels,
		"additionalProperties": false,
	}
}
