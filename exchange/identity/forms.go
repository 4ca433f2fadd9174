package identity

import (
	"encoding/json"
	"strings"
)

// A form is what a claim must be, where it is there.
type form struct {
	not string // the end of "the claim x is not …"
	is  func(value any) bool
}

var (
	text   = form{"a string", func(v any) bool { _, ok := v.(string); return ok }}
	truth  = form{"true or false", func(v any) bool { _, ok := v.(bool); return ok }}
	idText = form{"a positive number written as a string", func(v any) bool { s, ok := v.(string); return ok && isID(s) }}
	number = form{"a positive number", func(v any) bool { n, ok := v.(json.Number); return ok && isID(n.String()) }}
	id     = form{"a positive number", func(v any) bool { return idText.is(v) || number.is(v) }}
	uuid   = form{"a UUID in lower case", func(v any) bool { s, ok := v.(string); return ok && isUUID(s) }}
	// textOrNumber is what an operator may say that a job is named by.
	textOrNumber = form{"a string or a positive number", func(v any) bool { return text.is(v) || number.is(v) }}
)

// checkForms refuses claims that are not of the type their issuer gives them: a policy
// that reads them must not have to guess.
func (k kind) checkForms(c Claims) error {
	for _, f := range k.forms {
		for _, name := range f.names {
			if value, present := c[name]; present && !f.form.is(value) {
				return refuse(RuleClaims, "the claim "+name+" is not "+f.form.not, fixIssuerToken)
			}
		}
	}
	return nil
}

// isID reports whether text is a positive decimal number in its one spelling.
func isID(text string) bool {
	if text == "" || len(text) > 19 || text[0] == '0' { // 19 digits hold every int64
		return false
	}
	for _, digit := range []byte(text) {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}

// isUUID reports whether text is a UUID in its one spelling (RFC 9562, 4): of the two
// cases that one may read, issuers write the lower.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for at, r := range []byte(text) {
		switch hyphen := at == 8 || at == 13 || at == 18 || at == 23; {
		case hyphen && r != '-', !hyphen && !strings.ContainsRune("0123456789abcdef", rune(r)):
			return false
		}
	}
	return true
}
