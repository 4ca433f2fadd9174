package vault

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// policies and roles there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	return backend.Described("A token of Vault or OpenBao with these policies alone, which cannot be renewed.", backend.SchemaOf[block](keySchema))
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "policies":
		return backend.Described("The token's policies, of those that the configuration allows. It has no other, also not default.", map[string]any{
			"type": "array", "minItems": 1, "maxItems": maxPolicies, "uniqueItems": true, "items": backend.OrFilled(backend.Matching(validPolicy)),
		})
	case "role":
		return backend.Described("The token role that makes it, of those in the configuration.", backend.OrFilled(backend.Matching(validRole)))
	case "uses":
		return backend.Described("How many requests the token is good for. Any number if left out.",
			map[string]any{"type": "integer", "minimum": 1, "maximum": maxUses})
	}
	return nil
}
