package policy_test

// unseen are the hostile files that the schema takes, or does not get to see, by the
// reason why.
var unseen = map[string]string{
	"it is no YAML, so an editor says so before any schema": `
		alias bracket-left-open claim-twice colon-in-text key-twice quote-left-open tab wrong-indentation`,
	"it is how the YAML is written, of which a schema sees only what comes out": `
		anchor claim-name-is-a-number directive document-end escape-in-comment merge-key not-utf-8
		per-job-is-octal second-document tag text-reversed value-is-no value-is-scientific`,
	"it is in an expression, which is text to a schema": `
		actor-in-when expression-empty expression-in-list expression-is-a-boolean expression-left-open expression-misspelt
		expression-of-a-path-inside expression-of-a-star expression-of-sub expression-that-the-backend-refuses issued-at-in-when
		sub-by-index-in-when sub-in-when when-claim-by-claim when-claim-misspelt when-claim-of-our-own when-claims-hidden
		when-claims-whole when-clock when-costs-too-much when-function-misspelt when-in-lines when-in-list when-input-undeclared
		when-left-open when-number when-path when-pattern-from-claim when-regular-expression when-sub when-text when-too-deep
		contains-a-branch contains-a-property ends-with-a-workflow match-anywhere match-from-the-left match-group-half-anchored
		match-half-anchored match-in-a-list-of-conditions match-line-by-line match-of-an-input match-one-of-two
		match-optional-anchor match-to-the-right gitlab-claim-misspelt gitlab-user-in-when`,
	"it may be accepted with a reason elsewhere in the file": `
		accept-another-event-rule comment-that-releases forgejo-pull-request-target pull-request-target server-with-a-privileged-event
		three-privileged-events workflow-run-among-others`,
	"one key must fit another": `
		gitlab-requires-what-nobody-asks gitlab-until-its-step
		input-default-is-not-listed input-default-too-large input-example-does-not-match`,
	"it is a regular expression of another kind than the schema's": `
		input-pattern-opens-up input-pattern-quotes-the-end`,
	"it is in the configuration, or in the file's name": `
		issuer-as-url issuer-of-another-kind issuer-unknown oidc-without-its-pin other-file-name spiffe-of-another-domain spiffe-whole-domain`,
	"it is a sum of times": `
		ttl-in-fractions ttl-too-long`,
}
