package identity

import (
	"encoding/json"
	"fmt"
)

// A kind is what issuers of one make have in common: which claims name the job.
// Another make is another row here, never another package.
type kind struct {
	// ids must be there, each a positive decimal number written as a string.
	// Together with single they name the job.
	ids []string
	// single names the one job among those that share ids; a number is taken as
	// well as a string. Where the issuer has no such claim, instead (the first
	// must be there) takes its place, and the job is Weak.
	single  string
	instead []string
	// texts must be strings where they are there, and idTexts such numbers too.
	texts, idTexts []string
	// repository, run and attempt are the claims that a job's name shows.
	repository, repositoryID, run, attempt string
}

// kinds is the table. The sources of the github row: GitHub's "OpenID Connect
// reference" (all claims but the times are strings, ids and booleans too), and
// that check_run_id exists on github.com and GHE.com but not on GitHub Enterprise
// Server, which has no claim for a job at all: jobs of one run that the same
// workflow file defines, such as those of a matrix, are one job there.
//
// sub is in no row: its shape changed in 2026 and repository administrators can
// change it. Names are in no key: they can be given to others.
func kinds() map[string]kind {
	return map[string]kind{
		"github": {
			ids:     []string{"repository_id", "run_id", "run_attempt"},
			single:  "check_run_id",
			instead: []string{"workflow_ref", "job_workflow_ref"},
			texts: []string{
				"repository", "repository_owner", "repository_visibility", "actor", "enterprise",
				"ref", "ref_type", "ref_protected", "base_ref", "head_ref", "sha",
				"event_name", "environment", "environment_node_id", "runner_environment",
				"workflow", "workflow_ref", "workflow_sha", "job_workflow_ref", "job_workflow_sha",
			},
			idTexts:    []string{"repository_owner_id", "actor_id", "enterprise_id", "run_number"},
			repository: "repository", repositoryID: "repository_id", run: "run_id", attempt: "run_attempt",
		},
	}
}

func kindNamed(name string) (kind, bool) {
	k, ok := kinds()[name]
	return k, ok
}

// maxRepository holds every owner/name of GitHub: 39 + 1 + 100 characters.
const maxRepository = 140

// job reads the job that the claims name.
func (k kind) job(issuer string, c Claims) (Job, error) {
	if err := k.checkTypes(c); err != nil {
		return Job{}, err
	}
	parts := []string{issuer}
	for _, name := range k.ids {
		id, ok := c[name].(string)
		if !ok {
			return Job{}, refuse(RuleJob, "the claim "+name+" is missing, and the job cannot be named without it", fixIssuerToken)
		}
		parts = append(parts, id)
	}
	repository, _ := c.Text(k.repository)
	repositoryID, _ := c.Text(k.repositoryID)
	if repository == "" {
		repository = "repository " + repositoryID
	}
	job := Job{
		Name:       fmt.Sprintf("%s run %s.%s", printable(repository, maxRepository), c[k.run], c[k.attempt]),
		Repository: repositoryID,
	}
	job.Run, _ = c.Text(k.run)
	job.Attempt, _ = c.Text(k.attempt)
	if single, ok := c.Text(k.single); ok {
		parts = append(parts, single)
		job.Name += " job " + single
		job.ID = single
		job.Key = keyOf(parts)
		return job, nil
	}
	return k.weakJob(job, parts, c)
}

// weakJob names a job by the files that define it, where the issuer has no claim
// for the single job.
func (k kind) weakJob(job Job, parts []string, c Claims) (Job, error) {
	if _, ok := c.Text(k.instead[0]); !ok {
		return Job{}, refuse(RuleJob, "neither "+k.single+" nor "+k.instead[0]+" is there to name the job", fixIssuerToken)
	}
	for _, name := range k.instead {
		text, _ := c.Text(name)
		parts = append(parts, text)
	}
	job.Weak = true
	job.Key = keyOf(parts)
	return job, nil
}

// keyOf joins parts so that no two lists give one key, whatever a part holds. A
// strong and a weak key differ in their number of parts.
func keyOf(parts []string) string {
	key, _ := json.Marshal(parts) // strings always encode
	return string(key)
}

// checkTypes refuses claims that are not of the type their issuer gives them: a
// policy that reads them must not have to guess.
func (k kind) checkTypes(c Claims) error {
	for _, name := range append(append([]string{}, k.ids...), k.idTexts...) {
		if value, present := c[name]; present {
			if text, ok := value.(string); !ok || !isID(text) {
				return refuse(RuleClaims, "the claim "+name+" is not a positive number written as a string", fixIssuerToken)
			}
		}
	}
	if _, present := c[k.single]; present {
		if text, ok := c.Text(k.single); !ok || !isID(text) {
			return refuse(RuleClaims, "the claim "+k.single+" is not a positive number", fixIssuerToken)
		}
	}
	for _, name := range k.texts {
		if value, present := c[name]; present {
			if _, ok := value.(string); !ok {
				return refuse(RuleClaims, "the claim "+name+" is not a string", fixIssuerToken)
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
