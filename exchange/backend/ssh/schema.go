package ssh

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// principals and hosts there are, only the configuration says.
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
		"description":          "A fresh SSH key and a certificate for it, for these principals. Its end stops new logins; an open session goes on.",
		"properties":           properties,
		"required":             required,
		"additionalProperties": false,
	}
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) map[string]any {
	switch key {
	case "principals":
		return described("Whom the certificate logs in as, of those that the configuration allows. Hosts match them with the user, or with AuthorizedPrincipalsFile.",
			listOf(1, maxPrincipals, map[string]any{"type": "string", "pattern": ecma(validPrincipal.String())}))
	case "hosts":
		return described("Where to log in: name, or name:port, of those in the configuration. They become the credential's known_hosts. A certificate itself is good on every host that trusts the exchange.",
			listOf(1, maxHosts, map[string]any{"type": "string", "pattern": `^[0-9a-f:.\[\]a-z-]+$`}))
	case "force_command":
		return described("The one command that a login runs, by its whole path, or internal-sftp. Any command if left out.",
			orFilled(map[string]any{"type": "string", "pattern": ecma(validCommand.String()), "maxLength": maxCommand}))
	case "source_address":
		return described("Addresses and ranges that logins may come from, as 203.0.113.0/24. Any if left out.",
			listOf(1, maxSources, map[string]any{"type": "string", "pattern": `^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$`}))
	case "extensions":
		var each []any
		for _, name := range extensionNames() {
			each = append(each, map[string]any{"const": name, "description": extensions[name]})
		}
		return described("What a session may have beside its command. None if left out.", listOf(0, len(extensions), each...))
	}
	return nil
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

func listOf(least, most int, schemas ...any) map[string]any {
	list := map[string]any{"type": "array", "maxItems": most, "uniqueItems": true, "items": orFilled(schemas...)}
	if least > 0 {
		list["minItems"] = least
	}
	return list
}

// ecma spells the ends of a text as JSON Schema does.
func ecma(pattern string) string {
	return strings.NewReplacer(`\A`, `^`, `\z`, `$`).Replace(pattern)
}
