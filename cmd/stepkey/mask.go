package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/client"
)

// maskGrant has the runner hide every secret of a grant, in the forms in which
// programs like to print them. It comes before anything else that is done with
// the grant. The error is the log's: it cannot be written.
func (r runner) maskGrant(g *client.Grant) error {
	hidden, _ := sortedOut(g)
	done := map[string]bool{"": true, g.LeaseID: true} // some logins have the lease's name, which people look for in the audit log
	for _, value := range hidden {
		for _, form := range forms(value) {
			if done[form] {
				continue
			}
			done[form] = true
			if err := r.mask(form); err != nil {
				return fmt.Errorf("masking the credential: %w", err)
			}
		}
	}
	return nil
}

// sortedOut tells a grant's secrets from the values that a log may show, which are told by
// name. Whatever is not named is a secret, and so is what shows one: who says which values
// are public may be wrong about one.
func sortedOut(g *client.Grant) (hidden, public []string) {
	hidden = []string{g.LeaseToken.Reveal()}
	shown := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		if value := g.Values[name].Reveal(); slices.Contains(g.Public, name) {
			public, shown[value] = append(public, name), true
		} else {
			hidden = append(hidden, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Env)) { // they carry values, and perhaps more
		if value := g.Env[name].Reveal(); !shown[value] {
			hidden = append(hidden, value)
		}
	}
	for before := 0; before != len(hidden); { // what turns out to be a secret may be shown by another
		before = len(hidden)
		public = slices.DeleteFunc(public, func(name string) bool {
			value := g.Values[name].Reveal()
			shows := showsOne(value, hidden)
			if shows {
				hidden = append(hidden, value)
			}
			return shows
		})
	}
	return hidden, public
}

func showsOne(value string, hidden []string) bool {
	for _, secret := range hidden {
		for _, form := range forms(secret) {
			if form != "" && strings.Contains(value, form) {
				return true
			}
		}
	}
	return false
}

// forms are a value and its usual disguises. The runner itself adds some to what
// it is told to mask, others do not.
func forms(value string) []string {
	all := []string{value}
	if strings.ContainsAny(value, "\r\n") {
		all = append(all, lines(value)...)
	}
	all = append(all,
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawStdEncoding.EncodeToString([]byte(value)),
		base64.URLEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
		// What git sends, and prints when it is asked to trace: HTTP Basic.
		base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value)),
		url.QueryEscape(value), url.PathEscape(value),
	)
	if quoted, err := json.Marshal(value); err == nil {
		all = append(all, string(quoted[1:len(quoted)-1]))
	}
	return all
}

// lines are those of a value of several that say something: logs come line by
// line, but to hide every "}" would hide the log.
func lines(value string) []string {
	var long []string
	for line := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if line = strings.TrimSpace(line); len(line) >= 4 {
			long = append(long, line)
		}
	}
	return long
}
