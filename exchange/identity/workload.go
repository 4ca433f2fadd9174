package identity

import (
	"encoding/json"
	"time"
)

// A Workload is who is asking, after everything about the subject token held.
// Only Verify makes one that somebody vouches for; see Unverified.
type Workload struct {
	Issuer   string    // the issuer's name in the configuration: "github"
	TokenID  string    // the token's jti, or its hash; with Issuer the key of its one use
	IssuedAt time.Time // iat
	// Expires is exp plus the Leeway: from then on Verify refuses the token by this
	// clock. The used token is remembered at least this long, and as much longer as
	// the clocks of replicas may differ.
	Expires time.Time
	Claims  Claims
	Job     Job
	// Binding is what the token's audience binds it to: the base64url SHA-256 of one
	// request and of the key that makes it. Empty where the audience is ours alone. What
	// is bound must be taken for that request and for no other.
	Binding string
}

// Claims are the verified claims of a subject token, by their exact names. Members of a
// claim that the issuer's kind is known to nest are claims of their own, with a slash:
// kubernetes.io/pod/uid.
// Values are what JSON has: string, bool, json.Number, nil, []any, map[string]any.
type Claims map[string]any

// Text returns a claim as the text that policies compare: strings as they are,
// numbers in their JSON spelling, booleans as "true" and "false". Absent claims
// and those of any other type have no text.
func (c Claims) Text(name string) (string, bool) {
	switch v := c[name].(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	default:
		return "", false
	}
}

// A Job is the unit of work that a subject token can vouch for. The token of a
// CI system names a job and not a step: nothing here is finer than that.
type Job struct {
	// Key is equal for all subject tokens of one job and differs for any other,
	// across issuers too. Limits per job and "end all that this job holds" use it.
	Key string
	// Name is for people: "acme/widget run 18170960955.1 job 51725241954".
	Name string
	// Repository is the id of the repository the job runs for, or of what the issuer has
	// in its place (a project, a pipeline); empty where it knows none.
	Repository string
	// Run, Attempt and ID are the issuer's own names for the run, which time it is
	// run, and this one job of it; empty where it has none.
	Run, Attempt, ID string
	// Weak: the issuer does not name the single job (GitHub Enterprise Server has
	// no check_run_id), so Key is only as fine as the run's attempt and job name.
	Weak bool
	// Shared: Key is that of all workloads with one name, at once and over time, as the
	// replicas of a service have one SPIFFE ID. Another holder of it is no sign of theft.
	Shared bool
}
