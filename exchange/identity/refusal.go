package identity

import (
	"errors"
	"strings"
)

// The rules a subject token can break, in the order in which they are checked.
// They are part of the audit log and of metrics: stable.
const (
	RuleSize      = "size"      // larger than any honest token
	RuleForm      = "form"      // not the one spelling of a compact JWS (RFC 7515, 7.1)
	RuleJSON      = "json"      // header or claims are not one unambiguous JSON object (RFC 7493)
	RuleIssuer    = "issuer"    // iss is not a configured issuer
	RuleHeader    = "header"    // algorithm, type or critical parameters (RFC 8725)
	RuleKey       = "key"       // the issuer has no such key, or not for this algorithm
	RuleSignature = "signature" // not signed with that key
	RuleLifetime  = "lifetime"  // exp is not after iat, or too long after it
	RuleExpired   = "expired"   // exp has passed
	RuleNotYet    = "not-yet"   // iat or nbf lie ahead
	RuleAge       = "age"       // issued too long ago, whatever exp says
	RuleAudience  = "audience"  // not made for this exchange alone
	RuleClaims    = "claims"    // a claim has the wrong type or form
	RuleTokenID   = "jti"       // no usable jti, so its one use cannot be recorded
	RuleJob       = "job"       // the claims that name the job are missing
)

// Fixes that several rules share.
const (
	fixIssuerToken = "send the token exactly as the issuer made it"
	fixFresh       = "request a new token right before the exchange and send it once"
)

// A Refusal is why a subject token is not believed. Reason and Fix stay within the
// characters that error_description may have (RFC 6749, 5.2), hold nothing of the
// token's spelling, and show a hostile value only cut to 80 printable characters.
type Refusal struct {
	Rule   string // one of the Rule constants
	Reason string // what is wrong, for people
	Fix    string // what to do about it
	Issuer string // the issuer's configured name, once one was chosen; not proof of origin
}

// Error implements error.
func (r *Refusal) Error() string {
	return "subject token refused (" + r.Rule + "): " + r.Reason + "; " + r.Fix
}

// ErrUnavailable is wrapped when a token can neither be believed nor refused,
// because the keys of its issuer cannot be had now. The same token may pass later.
// A kid that is not among the keys at hand counts as such while the issuer does not
// answer: it may be a new key.
var ErrUnavailable = errors.New("the keys of the issuer cannot be had now")

func refuse(rule, reason, fix string) *Refusal {
	return &Refusal{Rule: rule, Reason: reason, Fix: fix}
}

// shown is how many characters of a hostile value an error may show.
const shown = 80

// show quotes a value that nobody vouches for, cut to what an error may show.
func show(value string) string { return "'" + printable(value, shown) + "'" }

// printable keeps a hostile value from doing harm in logs, terminals and
// error_description: at most limit characters, plain ASCII, no quotes of any kind.
func printable(value string, limit int) string {
	var out strings.Builder
	count := 0
	for _, r := range value {
		if count++; count > limit {
			out.WriteString("...")
			break
		}
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '\'' {
			r = '?'
		}
		out.WriteRune(r)
	}
	return out.String()
}
