package github

import (
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
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
	of := backend.Described("A token of your GitHub App, for these repositories and with these permissions alone.", backend.SchemaOf[block](keySchema))
	of["anyOf"] = []any{
		map[string]any{"required": []string{"repository_ids"}, "properties": map[string]any{"repository_ids": map[string]any{"minItems": 1}}},
		map[string]any{"required": []string{"repositories"}, "properties": map[string]any{"repositories": map[string]any{"minItems": 1}}},
	}
	return of
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "owner":
		return backend.Described("The organization or user that the repositories belong to. The configuration's owner if left out.",
			backend.OrFilled(map[string]any{"type": "string", "pattern": ownerPattern}))
	case "repositories":
		return backend.Described("Names of repositories, without the owner. Beside repository_ids, in the same order, they are words for people.",
			listOf(map[string]any{"type": "string", "pattern": repositoryPattern, "not": map[string]any{"pattern": notRepositoryPattern}}))
	case "repository_ids":
		return backend.Described("Numbers of repositories, which stay the same when a name changes. GET /repos/OWNER/NAME has them as id.",
			listOf(map[string]any{"type": "integer", "minimum": 1}, map[string]any{"type": "string", "pattern": `^[1-9][0-9]{0,18}$`}))
	case "permissions":
		return permissionsSchema()
	}
	return nil
}

func listOf(schemas ...any) map[string]any {
	return map[string]any{"type": "array", "maxItems": githubapp.MaxRepositories, "uniqueItems": true, "items": backend.OrFilled(schemas...)}
}

func permissionsSchema() map[string]any {
	levels := map[string]any{}
	for _, p := range permissions {
		known := strings.Fields(p.levels)
		words := "The App's permission for " + strings.ReplaceAll(p.name, "_", " ") + ": " + strings.Join(known, " or ") + "."
		levels[p.name] = backend.Described(words, backend.OrFilled(map[string]any{"enum": known}))
	}
	return map[string]any{
		"type":                 "object",
		"description":          "What the token may do. Each level includes the lower ones.",
		"minProperties":        1,
		"properties":           levels,
		"additionalProperties": false,
	}
}
