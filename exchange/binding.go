package exchange

import (
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// ruleBinding is how a misbound token stands in the audit log.
const ruleBinding = "binding"

// misbound is a subject token that somebody vouches for and that is not for what it is
// shown with. Its words are about the client's own token and request, so they may be
// told.
type misbound struct{ why string }

func (e *misbound) Error() string { return "subject token refused (" + ruleBinding + "): " + e.why }

// keepToBinding takes a bound token for the request and the key that it is bound to, and
// for nothing else, whatever the task asks for: whoever bound it meant so. A request
// without Binding, as that of every other door and of an end by a job, takes none. A
// thief could end there what the job holds, which gives nothing to the thief; but what
// is stolen is to be good for nothing at all.
//
// Nothing is used up: a stolen token that is shown in vain must not cost its owner the
// credential. Both sides of the comparison are known to whoever sends them.
func keepToBinding(w identity.Workload, r Request) error {
	switch {
	case w.Binding == "":
		return nil
	case r.Binding == "" || r.Holder == "":
		return &misbound{"it is bound to one request for a credential and to the key that makes it; send that request to /token with a DPoP proof by that key; for anything else ask for an ID token with the exchange's plain audience"}
	case w.Binding != r.Binding:
		return &misbound{"it is bound to another request or to another key; the task, authorization_details and the key of the DPoP proof must be those that its audience was made of"}
	}
	return nil
}

// demandBinding refuses a plain token where the task wants a bound one. It comes after
// the policy, so that strangers learn nothing of the task.
func demandBinding(w identity.Workload, g policy.Grant) error {
	if g.Bind == policy.BindRequest && w.Binding == "" {
		return &misbound{"the task takes only ID tokens that are bound to the request (bind: request), and this one has the exchange's plain audience; update the client; where the source of ID tokens cannot make them for any audience, ask for bind to be taken out of the task file"}
	}
	return nil
}
