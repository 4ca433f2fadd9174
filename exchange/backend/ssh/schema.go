package ssh

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// principals and hosts there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	return backend.Described("A fresh SSH key and a certificate for it, for these principals. Its end stops new logins; an open session goes on.",
		backend.SchemaOf[block](keySchema))
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "principals":
		return backend.Described("Whom the certificate logs in as, of those that the configuration allows. Hosts match them with the user, or with AuthorizedPrincipalsFile.",
			listOf(1, maxPrincipals, backend.Matching(validPrincipal)))
	case "hosts":
		return backend.Described("Where to log in: name, or name:port, of those in the configuration. They become the credential's known_hosts. A certificate itself is good on every host that trusts the exchange.",
			listOf(1, maxHosts, map[string]any{"type": "string", "pattern": `^[0-9a-f:.\[\]a-z-]+$`}))
	case "force_command":
		return backend.Described("The one command that a login runs, by its whole path, or internal-sftp. Any command if left out.",
			backend.OrFilled(map[string]any{"type": "string", "pattern": backend.Pattern(validCommand), "maxLength": maxCommand}))
	case "source_address":
		return backend.Described("Addresses and ranges that logins may come from, as 203.0.113.0/24. Any if left out.",
			listOf(1, maxSources, map[string]any{"type": "string", "pattern": `^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$`}))
	case "extensions":
		var each []any
		for _, name := range extensionNames() {
			each = append(each, map[string]any{"const": name, "description": extensions[name]})
		}
		return backend.Described("What a session may have beside its command. None if left out.", listOf(0, len(extensions), each...))
	}
	return nil
}

func listOf(least, most int, schemas ...any) map[string]any {
	list := map[string]any{"type": "array", "maxItems": most, "uniqueItems": true, "items": backend.OrFilled(schemas...)}
	if least > 0 {
		list["minItems"] = least
	}
	return list
}
