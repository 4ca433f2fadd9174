package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// narrowed reads authorization_details (RFC 9396) into r: nothing, or a list of the one
// entry that we know. An entry or member that we do not know is refused, as section 5
// asks: it might have been meant to narrow. What is in it is the policy's to judge.
func narrowed(text string, r *exchange.Request) error {
	if text == "" {
		return nil
	}
	root, err := yamlfile.ParseJSON("authorization_details", []byte(text))
	if err != nil {
		return badDetails("authorization_details must be a JSON list such as %s: %s", sampleDetails, yamlfile.Faults(err)[0].Message)
	}
	if !root.IsList() {
		return badDetails("authorization_details must be a JSON list such as %s", sampleDetails)
	}
	entries := root.Items()
	var kind string
	if len(entries) != 1 || !entries[0].IsMapping() || entries[0].Get("type").Decode(&kind) != nil || kind != client.DetailsTypeTask {
		return badDetails("authorization_details must hold one entry, of type %s", client.DetailsTypeTask)
	}
	return taskDetails(entries[0], r)
}

const sampleDetails = `[{"type":"` + client.DetailsTypeTask + `","ttl":"5m"}]`

func taskDetails(entry yamlfile.Node, r *exchange.Request) error {
	for _, name := range entry.Keys() {
		value := entry.Get(name)
		switch name {
		case "type":
		case "ttl":
			var err error
			if r.TTL, err = lifetime(value); err != nil {
				return err
			}
		case "inputs":
			if !value.IsMapping() || value.Decode(&r.Inputs) != nil {
				return badDetails("the inputs in authorization_details must be an object of texts, numbers in quotes, too")
			}
		case "credential":
			if !value.IsMapping() {
				return badDetails(`the credential in authorization_details must be an object of what is wanted of it, by its kind: {"github":{"repositories":["widget"]}}`)
			}
			r.Narrow = value
		case "uses":
			return badDetails("uses in authorization_details cannot be had: only a gateway can count uses, and the credential is handed out")
		default:
			return badDetails("authorization_details may hold type, ttl, inputs and credential, and no other members")
		}
	}
	return nil
}

// lifetime takes empty text for none, as clients write what they leave out.
func lifetime(n yamlfile.Node) (time.Duration, error) {
	var text string
	if n.Decode(&text) == nil && text == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl <= 0 {
		return 0, badDetails(`the ttl in authorization_details must be a positive duration such as "90s" or "5m"`)
	}
	return ttl, nil
}

func badDetails(format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, "invalid_authorization_details", fmt.Sprintf(format, args...)}
}

// granted is what came of authorization_details, asked for or not (RFC 9396 section 7).
func granted(r exchange.Request, l exchange.Lease) []client.TaskDetails {
	return []client.TaskDetails{{
		Type: client.DetailsTypeTask, TTL: l.EndsAt.Sub(l.Created).Round(time.Second).String(), Inputs: r.Inputs, Granted: l.Granted,
	}}
}
