package kubernetes

import (
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. What there
// is in which namespace, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	of := backend.Described("A token of the Kubernetes API for one namespace, which ends with its lease.", backend.SchemaOf[block](keySchema))
	var one []any
	for _, key := range []string{"rules", "role", "cluster_role", "service_account"} {
		one = append(one, map[string]any{"required": []string{key}})
	}
	of["oneOf"] = one
	return of
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "namespace":
		return backend.Described("The one namespace, of those that the configuration allows.", backend.OrFilled(backend.Matching(validLabel)))
	case "rules":
		return backend.Described("What may be done with which kinds of things.", map[string]any{
			"type": "array", "minItems": 1, "maxItems": maxRules, "items": backend.SchemaOf[ruleBlock](ruleKey),
		})
	case "role":
		return backend.Described("Instead of rules: a Role of that namespace, of those that the configuration allows.", backend.OrFilled(backend.Matching(validRole)))
	case "cluster_role":
		return backend.Described("Instead of rules: a ClusterRole, given in that namespace alone, of those that the configuration allows.", backend.OrFilled(backend.Matching(validRole)))
	case "service_account":
		return backend.Described("Instead of rules: a service account of that namespace with all that it may do, of those that the configuration allows.", backend.OrFilled(backend.Matching(validSubdomain)))
	}
	return nil
}

func ruleKey(key string) any {
	switch key {
	case "api_group":
		return backend.Described("As apps. The core group, with pods, services and configmaps, if left out.", backend.OrFilled(backend.Matching(validSubdomain)))
	case "resources":
		return backend.Described("Kinds of things in the plural, as deployments or pods/log.", listOf(maxResources, backend.OrFilled(backend.Matching(validResource))))
	case "names":
		return backend.Described("Which of them by name; all if left out. create and deletecollection cannot be limited so.", listOf(maxNames, backend.OrFilled(backend.Matching(validRole))))
	case "verbs":
		return backend.Described("What may be done: "+strings.Join(verbs, ", ")+".",
			listOf(len(verbs), backend.OrFilled(map[string]any{"enum": verbs})))
	}
	return nil
}

func listOf(most int, items map[string]any) map[string]any {
	return map[string]any{"type": "array", "minItems": 1, "maxItems": most, "uniqueItems": true, "items": items}
}
