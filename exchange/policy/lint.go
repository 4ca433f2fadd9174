package policy

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// view is a task file as the linter looks at it: by its nodes, and whether it could be
// read or not. What is absent or of another shape is passed over here, because reading
// has said so.
type view struct {
	root    yamlfile.Node
	purpose string
	backend string // the key under credential, and its block
	block   yamlfile.Node
	require []string
}

// door is one entry of allow.
type door struct {
	kind   string // of its issuer
	node   yamlfile.Node
	claims yamlfile.Node
	when   []*condExpr
}

// lint finds what lets strangers in and what is fragile in a file whose words are
// understood one by one.
func (r *reader) lint(root yamlfile.Node) {
	v := viewOf(root)
	for _, item := range root.Get("allow").Items() {
		d, ok := r.door(item)
		if !ok {
			continue
		}
		for _, look := range kinds()[d.kind].look {
			look(r, v, d)
		}
	}
	r.lintTTL(v)
	if v.backend == "github" {
		r.lintGitHub(v)
	}
}

func viewOf(root yamlfile.Node) *view {
	v := &view{root: root, purpose: text(root.Get("purpose"))}
	if keys := root.Get("credential").Keys(); len(keys) == 1 {
		v.backend, v.block = keys[0], root.Get("credential", keys[0])
	}
	for _, item := range root.Get("require").Items() {
		v.require = append(v.require, text(item))
	}
	return v
}

func (r *reader) door(n yamlfile.Node) (door, bool) {
	d := door{kind: r.kindOf(text(n.Get("issuer"))), node: n, claims: n.Get("claims")}
	if d.kind == "" || len(d.claims.Keys()) == 0 {
		return door{}, false
	}
	d.when = readWhen(n.Get("when"))
	return d, true
}

// text is what a node says, and nothing where it says no text.
func text(n yamlfile.Node) string {
	var words string
	if !n.Exists() || n.Decode(&words) != nil {
		return ""
	}
	return words
}

// values are the nodes of a claim's one value or its list.
func (d door) values(claim string) []yamlfile.Node {
	n := d.claims.Get(claim)
	if n.IsList() {
		return n.Items()
	}
	if !n.Exists() {
		return nil
	}
	return []yamlfile.Node{n}
}

// among reports whether some claim's values hold one of some texts.
func (d door) among(claim string, texts ...string) bool {
	return slices.ContainsFunc(d.values(claim), func(n yamlfile.Node) bool { return slices.Contains(texts, text(n)) })
}

// only reports whether a claim is matched, with that one value.
func (d door) only(claim, value string) bool {
	all := d.values(claim)
	return len(all) == 1 && text(all[0]) == value
}

// matches reports whether one of some claims is matched, exactly or in a condition.
func (d door) matches(claims ...string) bool {
	return slices.ContainsFunc(claims, func(claim string) bool {
		return d.claims.Get(claim).Exists() || d.whens(claim)
	})
}

// at is the place where a claim is matched.
func (d door) at(claim string) yamlfile.Node {
	if d.claims.Get(claim).Exists() {
		return d.claims.Key(claim)
	}
	return d.node.Get("when")
}

// privileged are events that run the workflow of the base repository, in its name, on
// what somebody else sent.
func privileged(event string) (why string) {
	switch event {
	case "pull_request_target":
		return "the pull request may come from anybody's fork"
	case "workflow_run":
		return "the run before it, and what that run left behind, may be of anybody's fork"
	case "issue_comment":
		return "the comment, and the pull request below it, may be anybody's"
	}
	return ""
}

// strangerEvents can be started by whoever can see the repository, if it is public.
var strangerEvents = []string{"issues", "discussion", "discussion_comment", "fork", "watch", "gollum"}

func (r *reader) lintEvents(v *view, d door) {
	for _, n := range d.values("event_name") {
		event := text(n)
		if why := privileged(event); why != "" {
			r.find("privileged-event", n, "%s runs in the repository's name, and %s", event, why)
		}
		if slices.Contains(strangerEvents, event) {
			r.find("stranger-event", n, "anybody who sees a public repository can cause %s, and its texts are theirs", event)
		}
		if name := v.writes(); event == "pull_request" && name != "" && !slices.Contains(v.require, protectedEnvironment) {
			r.find("unreviewed-code", n, "on pull_request runs code that nobody has reviewed, and the credential writes %s", name)
		}
	}
}

func (r *reader) lintRunner(_ *view, d door) {
	if d.among("event_name", "pull_request", "pull_request_target", "workflow_run", "issue_comment") &&
		!d.only("runner_environment", "github-hosted") && !d.whens("runner_environment") {
		r.find("self-hosted-open", d.claims.Key("event_name"), "code that nobody has reviewed may run on a self-hosted machine; add runner_environment: github-hosted")
	}
}

var workflowClaims = []string{"workflow_ref", "job_workflow_ref", "workflow_sha", "job_workflow_sha"}

func (r *reader) lintWorkflow(_ *view, d door) {
	if !d.matches(append(workflowClaims, "environment")...) {
		r.find("workflow-unnamed", d.claims, "any workflow of the repository may use the task, on any branch that these claims leave open; add environment, workflow_ref or job_workflow_ref")
	}
	if d.matches("job_workflow_ref") && !d.matches("workflow_ref", "repository_id") {
		r.find("one-workflow-claim", d.at("job_workflow_ref"), "job_workflow_ref says which file defines the job and not who calls it; add repository_id or workflow_ref")
	}
	r.lintMovable(d, "workflow_ref", d.only("ref_protected", "true"))
	r.lintMovable(d, "job_workflow_ref", false)
}

// lintMovable looks at one claim that names a workflow file at a ref. Any digest of
// workflow code pins it: workflow_sha is the caller's, job_workflow_sha the definer's.
func (r *reader) lintMovable(d door, claim string, held bool) {
	sha := strings.TrimSuffix(claim, "_ref") + "_sha"
	if held || d.matches(sha) {
		return
	}
	for _, n := range d.values(claim) {
		if movable(text(n)) {
			r.find("workflow-movable", n, "%s is at a ref that can be moved to other code; add %s", claim, sha)
		}
	}
	for _, c := range d.comparisons(claim) {
		if movable(c.text) {
			r.find("workflow-movable", c.at, "%s is compared with %s, a ref that can be moved to other code; add %s", claim, yamlfile.Quote(c.text), sha)
		}
	}
}

// movable reports whether "owner/repository/.github/workflows/file.yml@ref" is at a
// branch or a tag.
func movable(workflow string) bool {
	_, ref, _ := strings.Cut(workflow, "@")
	return !commit.MatchString(ref)
}

func (r *reader) lintRepository(_ *view, d door) {
	if !d.matches("repository_owner_id") || d.matches("repository_id", "repository", "workflow_ref") {
		return
	}
	for _, claim := range d.claims.Keys() {
		if strings.HasPrefix(claim, listPrefix) {
			r.find("property-as-identity", d.claims.Key(claim), "only %s says which of the owner's repositories may have it, and properties can be set by others", yamlfile.Quote(claim))
			return
		}
	}
	r.find("owner-only", d.at("repository_owner_id"), "every repository of the owner may have it, also one that is created tomorrow; add repository_id")
}

func (r *reader) lintEnvironment(v *view, d door) {
	if d.matches("environment") && !slices.Contains(v.require, protectedEnvironment) {
		r.find("environment-unprotected", d.at("environment"), "an environment without rules has the same claim; add require: [%s]", protectedEnvironment)
	}
}

// lifetimes is a Scoper that knows how long its credentials are good for.
type lifetimes interface {
	// Lifetimes returns how long a step's work seldom exceeds, and how long a
	// credential lives at most; 0 where there is no such time.
	Lifetimes() (sensible, longest time.Duration)
}

func (r *reader) lintTTL(v *view) {
	var ttl time.Duration
	n := v.root.Get("limits", "ttl")
	known, ok := r.Backends[v.backend].(lifetimes)
	if !ok || !n.Exists() || n.Decode(&ttl) != nil || ttl > maxTTL {
		return
	}
	sensible, longest := known.Lifetimes()
	switch {
	case longest > 0 && ttl > longest:
		r.find("ttl-long", n, "ttl is %s; a credential of %s dies by itself after %s", span(ttl), v.backend, span(longest))
	case sensible > 0 && ttl > sensible:
		r.find("ttl-long", n, "ttl is %s; a step with a credential of %s seldom takes longer than %s", span(ttl), v.backend, span(sensible))
	}
}

var commit = regexp.MustCompile(`\A[0-9a-f]{40}\z`)

// neverRule is the rule that is broken by matching a claim that never may be.
func neverRule(claim string) string {
	switch claim {
	case "sub":
		return "sub-matched"
	case "actor", "actor_id":
		return "identity-by-actor"
	}
	if slices.Contains(kinds()["gitlab"].people, claim) {
		return "identity-by-actor"
	}
	return "already-checked"
}
