package client

import "encoding/json"

// The wire types of the exchange, defined once, for this client and for the
// server. Secrets are plain strings here, since here they are on the wire; both
// sides wrap them in secret.String before anything else.

// Names from the standards, and ours beside them.
const (
	GrantTypeTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693, 2.1
	TokenTypeJWT           = "urn:ietf:params:oauth:token-type:jwt"            // RFC 8693, 3
	TokenTypeIDToken       = "urn:ietf:params:oauth:token-type:id_token"       // RFC 8693, 3
	TokenTypeAccessToken   = "urn:ietf:params:oauth:token-type:access_token"   // RFC 8693, 3
	TokenTypeJob           = "urn:stepkey:token-type:job"                      // revocation hint: end all that this subject token's job holds
	DetailsTypeTask        = "stepkey_task"                                    // RFC 9396, 2: our authorization_details type
)

// Error codes of RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 6585 and RFC 9449
// section 5.
const (
	CodeInvalidRequest   = "invalid_request"
	CodeInvalidGrant     = "invalid_grant"
	CodeInvalidScope     = "invalid_scope"
	CodeInvalidDPoPProof = "invalid_dpop_proof"
	CodeAccessDenied     = "access_denied"
	CodeSlowDown         = "slow_down"
	CodeUnavailable      = "temporarily_unavailable"
	CodeServerError      = "server_error"
)

// TokenResponse is the success of POST /token (RFC 8693 section 2.2.1).
type TokenResponse struct {
	AccessToken     string     `json:"access_token"`
	IssuedTokenType string     `json:"issued_token_type"`
	TokenType       string     `json:"token_type"`
	ExpiresIn       int64      `json:"expires_in"` // seconds until the lease ends
	Scope           string     `json:"scope"`      // the task
	Lease           Lease      `json:"lease"`
	Credential      Credential `json:"credential"`
	// AuthorizationDetails is what was granted (RFC 9396 section 7): one entry.
	AuthorizationDetails []TaskDetails `json:"authorization_details,omitempty"`
}

// Lease is the handle of what was given.
type Lease struct {
	ID        string `json:"id"`
	Token     string `json:"token"`   // ends and inspects this lease, nothing else
	EndsAt    string `json:"ends_at"` // RFC 3339, UTC: our promise
	DiesAt    string `json:"dies_at"` // RFC 3339, UTC: gone then even if everything stopped
	Revocable bool   `json:"revocable"`
	Remains   string `json:"remains,omitempty"` // what its end leaves of it, in words for people
	Granted   string `json:"granted"`           // in words for people
}

// Credential is the secret itself.
type Credential struct {
	Kind   string            `json:"kind"`
	Values map[string]string `json:"values"`
	Env    map[string]string `json:"env"` // environment variable -> value, ready to use
	// Public are the names of the Values that are no secret, such as a database's name. All
	// others are to be masked.
	Public []string `json:"public,omitempty"`
}

// TaskDetails is the one entry of authorization_details that we know (RFC 9396).
// It can only narrow what the task allows.
type TaskDetails struct {
	Type   string            `json:"type"`             // DetailsTypeTask
	TTL    string            `json:"ttl,omitempty"`    // Go duration: "90s", "5m"
	Inputs map[string]string `json:"inputs,omitempty"` // by the names that the task declares
	// Credential is what of the credential is wanted, by its kind:
	// {"github": {"permissions": {"contents": "read"}}}.
	Credential json.RawMessage `json:"credential,omitempty"`
	Granted    string          `json:"granted,omitempty"` // in an answer: what the credential can do, in words
}

// Introspection is the answer of POST /introspect (RFC 7662 section 2.2). For a
// token that is unknown or a lease that ended only Active and, with a lease token
// in hand, State, EndedAt and Reason are set.
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Exp       int64  `json:"exp,omitempty"`
	Iat       int64  `json:"iat,omitempty"`
	Iss       string `json:"iss,omitempty"`
	Sub       string `json:"sub,omitempty"` // the job in words
	LeaseID   string `json:"lease_id,omitempty"`
	State     string `json:"lease_state,omitempty"`
	EndsAt    string `json:"lease_ends_at,omitempty"`
	DiesAt    string `json:"lease_dies_at,omitempty"`
	EndedAt   string `json:"lease_ended_at,omitempty"`
	Reason    string `json:"lease_end_reason,omitempty"`
	Granted   string `json:"granted,omitempty"`
}

// Revocation is the body of a successful POST /revoke. RFC 7009 asks for 200 and
// leaves the body open; plain clients ignore it.
type Revocation struct {
	Leases []Ended `json:"leases"`
}

// Ended is one lease that a revocation touched.
type Ended struct {
	ID    string `json:"id"`
	State string `json:"state"` // revoked, expired, failed; revoking and unconfirmed are still being worked on
	// EndedAt is when it had ended (RFC 3339, UTC), if that was before this call.
	EndedAt string `json:"ended_at,omitempty"`
}

// ErrorResponse is every refusal (RFC 6749 section 5.2), with the id that finds it
// in the audit log.
type ErrorResponse struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	AuditID     string `json:"audit_id,omitempty"`
	// Rule is which rule the subject token broke, as in the audit log. Somebody who asks
	// may know more about one than the exchange does; the description is for all.
	Rule string `json:"rule,omitempty"`
}

// Some of the rules.
const (
	RuleIssuer   = "issuer"   // the exchange does not trust the subject token's issuer
	RuleAudience = "audience" // the subject token is not for this exchange
	RuleBinding  = "binding"  // it is bound to another request or key, or not bound where it must be
)

// Metadata is RFC 8414, served at both well-known places.
type Metadata struct {
	Issuer                            string   `json:"issuer"`
	TokenEndpoint                     string   `json:"token_endpoint"`
	RevocationEndpoint                string   `json:"revocation_endpoint"`
	IntrospectionEndpoint             string   `json:"introspection_endpoint"`
	JWKSURI                           string   `json:"jwks_uri"`
	GrantTypesSupported               []string `json:"grant_types_supported"`
	ResponseTypesSupported            []string `json:"response_types_supported"`
	TokenEndpointAuthMethodsSupported []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethodsSupported    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAuthMethodsSupported []string `json:"introspection_endpoint_auth_methods_supported"`
	AuthorizationDetailsTypes         []string `json:"authorization_details_types_supported"`
	SubjectTypesSupported             []string `json:"subject_types_supported"`
	IDTokenSigningAlgs                []string `json:"id_token_signing_alg_values_supported"`
	DPoPSigningAlgs                   []string `json:"dpop_signing_alg_values_supported"` // RFC 9449, 5.1
	// SubjectTokenBindings are the ways to bind a subject token to its request that are
	// understood: BindingRequestV1. An addition of ours.
	SubjectTokenBindings []string `json:"stepkey_subject_token_bindings_supported"`
}
