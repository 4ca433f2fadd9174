package identity

import (
	"encoding/json"
	"strings"
)

// maxPart holds every owner/name of GitHub: 39 + 1 + 100 characters.
const maxPart = 140

// job reads the job that the claims name.
func (k kind) job(issuer string, c Claims) (Job, error) {
	if err := k.checkForms(c); err != nil {
		return Job{}, err
	}
	parts := []string{issuer}
	for _, name := range k.key {
		value := c.named(name)
		if value == "" {
			return Job{}, refuse(RuleJob, "the claim "+name+" is missing, and the job cannot be named without it", fixIssuerToken)
		}
		parts = append(parts, value)
	}
	job := Job{Name: k.called(c), Repository: c.named(k.repository), Run: c.named(k.run), Attempt: c.named(k.attempt)}
	if single, ok := c.Text(k.single); ok && k.single != "" {
		job.ID, job.Key = single, keyOf(append(parts, single))
		return job, nil
	}
	return k.weakJob(job, parts, c)
}

// weakJob names a job by what comes nearest, where the issuer has no claim for the
// single job.
func (k kind) weakJob(job Job, parts []string, c Claims) (Job, error) {
	switch {
	case len(k.instead) > 0:
		if _, ok := c.Text(k.instead[0]); !ok {
			return Job{}, refuse(RuleJob, k.unnamed(), fixIssuerToken)
		}
		job.Weak = true
	case k.shared:
		job.Weak, job.Shared = true, true
	case k.single != "":
		return Job{}, refuse(RuleJob, k.unnamed(), fixIssuerToken)
	}
	for _, name := range k.instead {
		parts = append(parts, c.named(name))
	}
	job.Key = keyOf(parts)
	return job, nil
}

// unnamed says which claims would name the single job.
func (k kind) unnamed() string {
	switch {
	case k.single == "":
		return "the claim " + k.instead[0] + " is missing, and the job cannot be named without it"
	case len(k.instead) == 0:
		return "the claim " + k.single + " is missing, and the job cannot be named without it"
	}
	return "neither " + k.single + " nor " + k.instead[0] + " is there to name the job"
}

// called is the job's name for people.
func (k kind) called(c Claims) string {
	var name strings.Builder
	for _, p := range k.name {
		if value := c.named(p.claim); value != "" && c.named(p.unless) == "" {
			name.WriteString(p.before + printable(value, maxPart))
		}
	}
	return name.String()
}

// named is the text of a claim that a row names; of none, there is none.
func (c Claims) named(claim string) string {
	if claim == "" {
		return ""
	}
	value, _ := c.Text(claim)
	return value
}

// keyOf joins parts so that no two lists give one key, whatever a part holds. A
// strong and a weak key differ in their number of parts.
func keyOf(parts []string) string {
	key, _ := json.Marshal(parts) // strings always encode
	return string(key)
}
