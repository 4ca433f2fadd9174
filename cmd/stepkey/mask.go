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
	"github.com/stepkey/stepkey/internal/secret"
)

// maskGrant has the runner hide every secret of a grant, in the forms in which
// programs like to print them. It comes before anything else that is done with
// the grant. The error is the log's: it cannot be written.
func (r runner) maskGrant(g *client.Grant) error {
	secrets := []secret.String{g.LeaseToken}
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		secrets = append(secrets, g.Values[name])
	}
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		secrets = append(secrets, g.Env[name])
	}
	done := map[string]bool{"": true, g.LeaseID: true} // some logins have the lease's name, which people look for in the audit log
	for _, value := range secrets {
		for _, form := range forms(value.Reveal()) {
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
