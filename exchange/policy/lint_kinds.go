package policy

import "strings"

// What is looked at in entries for issuers of other kinds than github.

// ownerOnly finds an entry that pins who owns things and not which thing is meant.
func ownerOnly(owner, thing, called string) looks {
	return func(r *reader, _ *view, d door) {
		if d.matches(owner) && !d.matches(thing) {
			r.find("owner-only", d.at(owner), "everything of the %s may have it, also what is made tomorrow; add %s", called, thing)
		}
	}
}

// refOpen finds an entry that does not say from which branch or tag the code comes.
func refOpen(claims ...string) looks {
	return func(r *reader, _ *view, d door) {
		if !d.matches(claims...) {
			r.find("ref-open", d.claims, "any branch may use it, and whoever can push one decides what runs there; add %s", strings.Join(claims, " or "))
		}
	}
}

// lintForgejo looks at the workflow, which is all that Forgejo says of where code comes
// from: it has no environments and no digest of a workflow file.
func (r *reader) lintForgejo(_ *view, d door) {
	if !d.matches("workflow_ref") {
		r.find("workflow-unnamed", d.claims, "any workflow of the repository may use the task, on any branch that these claims leave open; add workflow_ref")
	}
	for _, claim := range []string{"workflow_ref", "ref"} {
		if d.matches(claim) && !d.only("ref_protected", "true") && !d.matches("sha") {
			r.find("ref-unprotected", d.at(claim), "%s names a branch or tag, and nothing says that it is protected; add ref_protected: \"true\"", claim)
			return
		}
	}
}

var gitLabRefs = []string{"ref", "ref_path", "environment", "ci_config_ref_uri"}

// lintGitLab looks at where code comes from. That ref_protected is matched is enough: who
// may push there is what the protection says.
func (r *reader) lintGitLab(_ *view, d door) {
	held := []string{"ref_protected", "environment_protected", "sha", "ci_config_sha"}
	if !d.matches(append(held, gitLabRefs...)...) {
		refOpen("ref_protected", "ref_path")(r, nil, d)
		return
	}
	if d.only("ref_protected", "true") || d.only("environment_protected", "true") || d.matches("sha", "ci_config_sha") {
		return
	}
	for _, claim := range gitLabRefs {
		if d.matches(claim) {
			fix := "ref_protected"
			if claim == "environment" {
				fix = "environment_protected"
			}
			r.find("ref-unprotected", d.at(claim), "%s is a name that whoever can push can use, and nothing says that it is protected; add %s: \"true\"", claim, fix)
			return
		}
	}
}

// lintCircleCI looks at the two ways in which a stranger's commands run in a project's
// name.
func (r *reader) lintCircleCI(_ *view, d door) {
	if !d.matches(ofCircleCI + "vcs-origin") {
		r.find("fork-origin", d.claims, "a build of a fork has the same claims, if the project passes secrets to forks; add %s", ofCircleCI+"vcs-origin")
	}
	if !d.only(ofCircleCI+"ssh-rerun", "false") && !d.whens(ofCircleCI+"ssh-rerun") {
		r.find("ssh-rerun", d.claims, "somebody may sit in the job with a shell; add %s: \"false\"", ofCircleCI+"ssh-rerun")
	}
}

// lintKubernetes looks for a token that is bound to nothing that ends.
func (r *reader) lintKubernetes(_ *view, d door) {
	for _, c := range d.when {
		if c.asks(ofKubernetes + "pod/uid") {
			return
		}
	}
	if !d.matches(ofKubernetes+"pod/uid", ofKubernetes+"pod/name") {
		r.find("token-without-pod", d.claims, "whoever may create tokens for the service account gets it from anywhere, without a pod; add when: '%q in claims'", ofKubernetes+"pod/uid")
	}
}
