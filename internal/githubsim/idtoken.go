package githubsim

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	idTokenLife    = 5 * time.Minute  // exp - iat
	idTokenBackset = 10 * time.Minute // iat - nbf
)

// getIDToken is the endpoint behind ACTIONS_ID_TOKEN_REQUEST_URL.
func getIDToken(c *call) (answer, error) {
	id, err := c.id("job")
	if err != nil {
		return answer{}, err
	}
	j := c.g.jobs[id]
	if j == nil || c.vars["run"] != strconv.FormatInt(j.runID, 10) {
		return answer{}, notFound()
	}
	value, err := c.bearer()
	if err != nil {
		return answer{}, err
	}
	if subtle.ConstantTimeCompare([]byte(value), []byte(j.runtimeToken)) != 1 {
		return answer{}, badCredentials()
	}
	query := c.r.URL.Query()
	if query.Get("api-version") != "2.0" {
		return answer{}, refuse(http.StatusBadRequest, "The query must keep api-version=2.0")
	}
	jwt, err := j.idToken(query.Get("audience"))
	if err != nil {
		return answer{}, err
	}
	a := ok(map[string]any{"value": jwt})
	a.header = http.Header{"Cache-Control": {"no-store"}}
	return a, nil
}

// IDToken is what the endpoint would give the job for that audience ("" is the
// default one), or refuse.
func (j *Job) IDToken(audience string) (string, error) {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	return j.idToken(audience)
}

func (j *Job) idToken(audience string) (string, error) {
	if err := j.mayHaveIDToken(); err != nil {
		return "", fmt.Errorf("asking for an ID token of job %d: %w", j.id, err)
	}
	return j.g.sign(j.claims(audience)), nil
}

// Sign signs any claims with the issuer's key, as no job could.
func (j *Job) Sign(claims map[string]any) string {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	return j.g.sign(claims)
}

// Claims are those of a new ID token for that audience, as a start for Sign.
func (j *Job) Claims(audience string) map[string]any {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	return j.claims(audience)
}

func (j *Job) claims(audience string) map[string]any {
	if audience == "" {
		audience = "https://github.com/" + j.repo.Owner
	}
	now := j.g.opts.Now()
	claims := map[string]any{
		"jti": guid(), "iss": j.g.IssuerURL(), "aud": audience, "sub": j.subject(),
		"nbf": now.Add(-idTokenBackset).Unix(), "iat": now.Unix(), "exp": now.Add(idTokenLife).Unix(),
	}
	maps.Copy(claims, j.repositoryClaims())
	maps.Copy(claims, j.runClaims())
	if j.spec.Environment != "" {
		claims["environment"] = j.spec.Environment
		claims["environment_node_id"] = fmt.Sprintf("EN_kwDO%X", hashOf(j.repo.fullName() + j.spec.Environment)[:6])
	}
	for name, value := range j.spec.Claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func (j *Job) repositoryClaims() map[string]any {
	return map[string]any{
		"repository":            j.repo.fullName(),
		"repository_id":         strconv.FormatInt(j.repo.ID, 10),
		"repository_visibility": j.repo.Visibility,
		"repository_owner":      j.repo.Owner,
		"repository_owner_id":   strconv.FormatInt(j.repo.OwnerID, 10),
	}
}

// runClaims are strings all of them, ids and booleans too. The workflow is the
// job's own file; a reusable one is told by Claims["job_workflow_ref"].
func (j *Job) runClaims() map[string]any {
	return map[string]any{
		"ref": j.spec.Ref, "ref_type": j.refType(), "ref_protected": strconv.FormatBool(j.refProtected()),
		"sha": j.spec.SHA, "head_ref": j.spec.HeadRef, "base_ref": j.spec.BaseRef,
		"actor": j.spec.Actor, "actor_id": j.actorID(), "event_name": j.spec.Event,
		"workflow": j.spec.WorkflowName, "workflow_ref": j.workflowRef(), "workflow_sha": j.spec.SHA,
		"job_workflow_ref": j.workflowRef(), "job_workflow_sha": j.spec.SHA,
		"run_id": strconv.FormatInt(j.runID, 10), "run_number": strconv.FormatInt(j.runNumber, 10),
		"run_attempt":        strconv.Itoa(j.spec.RunAttempt),
		"check_run_id":       strconv.FormatInt(j.id, 10),
		"runner_environment": j.spec.RunnerEnvironment,
	}
}

// subject follows GitHub's default template: the environment, else the pull
// request, else the ref.
func (j *Job) subject() string {
	about := "ref:" + colonless(j.spec.Ref)
	switch {
	case j.spec.Environment != "":
		about = "environment:" + colonless(j.spec.Environment)
	case j.spec.Event == "pull_request":
		about = "pull_request"
	}
	if j.repo.LegacySubject {
		return fmt.Sprintf("repo:%s:%s", j.repo.fullName(), about)
	}
	return fmt.Sprintf("repo:%s@%d/%s@%d:%s", j.repo.Owner, j.repo.OwnerID, j.repo.Name, j.repo.ID, about)
}

func colonless(value string) string { return strings.ReplaceAll(value, ":", "%3A") }

func (j *Job) workflowRef() string {
	return j.repo.fullName() + "/" + j.spec.Workflow + "@" + j.spec.Ref
}

func (j *Job) actorID() string {
	return strconv.FormatInt(j.g.account(j.spec.Actor, true, 0).id, 10)
}

func (j *Job) refType() string {
	if strings.HasPrefix(j.spec.Ref, "refs/tags/") {
		return "tag"
	}
	return "branch"
}

// refProtected: the default branch is, nothing else is.
func (j *Job) refProtected() bool { return j.spec.Ref == "refs/heads/"+defaultBranch }

// guid is a random one (RFC 9562, version 4).
func guid() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // crypto/rand never fails
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}
