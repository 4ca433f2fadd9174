package policy

// rules is the table; the first is that of form. docs/findings.md is made from it.
var rules = []Rule{
	{Form, Error, "not written as a task file is",
		"A key, a value or a sign that nothing reads may have been meant to restrict something. So nothing is passed over, and one fault refuses the file.",
		"The finding says what was found and what is taken."},

	// Who may have it.
	{"unpinned", Error, "nothing is pinned by numeric id",
		"GitHub gives the names of owners and repositories to others once they are free. Whoever takes the name would get the task.",
		"Match `repository_id`, or at least `repository_owner_id`. Both are in the answer of `GET /repos/OWNER/NAME`, as `id` and `owner.id`."},
	{"sub-matched", Error, "`sub` is matched",
		"`sub` has several shapes, repository admins can change them, some leave the repository out, and the names in it can be given to others.",
		"Match the claims that you mean: `repository_id`, `environment`, `ref`, `workflow_ref`."},
	{"identity-by-actor", Error, "the person who started the run is matched",
		"`actor` says who pressed the button, not which code runs. A run that somebody trusted started may run anybody's code.",
		"Match the repository and the workflow. Who may start a release is what an environment's reviewers are for."},
	{"already-checked", Error, "a claim is matched that is checked before",
		"`iss`, `aud`, `exp` and the like are checked for every token, or are different in every token. In a task file they restrict nothing, or never match.",
		"Leave it out; name the issuer as `issuer:`, and the lifetime as `limits: {ttl: …}`."},
	{"owner-only", Warning, "every repository of the owner may have it",
		"Whoever can create a repository there, or write to any one of them, can get the credential.",
		"Match `repository_id`; a list means any of."},
	{"property-as-identity", Warning, "only custom properties tell the repositories apart",
		"Properties are attributes and no identity. Where the organization allows it, those who may write to a repository can set them.",
		"Match `repository_id` beside the property, or accept this where only owners of the organization can set the property."},

	// On which event.
	{"events-open", Error, "the events are not listed",
		"`pull_request_target`, `workflow_run` and `issue_comment` run in the base repository's name on what strangers send. Not naming events lets them all in.",
		"List the events that the work begins on: `event_name: [push]`."},
	{"privileged-event", Error, "an event is listed that strangers start in the repository's name",
		"The workflow runs with the base repository's identity, while the pull request, the artifact or the comment comes from anybody. One step that checks out or evaluates it hands the credential over. It is an error because no other claim tells such a run from a harmless one.",
		"Do the part that needs a credential on `push` or `workflow_dispatch`. Where the workflow provably touches nothing of the stranger's, say so under `accept`."},
	{"stranger-event", Warning, "an event is listed that anybody can start",
		"Titles, bodies and names in such an event are a stranger's words. A `run` step that holds them in `${{ }}` executes them.",
		"Take the event out, or accept this once the workflow passes such text through the environment only."},
	{"unreviewed-code", Warning, "a pull request's code can write",
		"On `pull_request` the code, and the workflow file itself, are those of the branch, before anybody has looked. Whoever can push a branch can use the credential.",
		"Write on `push` to a protected branch, or behind a protected environment."},
	{"self-hosted-open", Warning, "code of pull requests may meet a machine that stays",
		"The event runs code that nobody has reviewed, and nothing says that the runner is thrown away afterwards. What one job leaves on a self-hosted machine can take the next job's credential.",
		"Match `runner_environment: github-hosted`."},

	// From which code.
	{"workflow-unnamed", Warning, "any workflow of the repository may have it",
		"Whoever can push a branch can add a workflow there that asks for the task.",
		"Match `environment` (protected), `workflow_ref` or `job_workflow_ref`."},
	{"workflow-movable", Warning, "the workflow is named at a ref that moves",
		"A branch or a tag can be moved to other code, and the claim stays the same.",
		"Match `job_workflow_sha` or `workflow_sha` beside it, or name the workflow at the 40 digits of a commit. For a workflow of the repository itself, `ref_protected: \"true\"` does, too."},
	{"one-workflow-claim", Warning, "a reusable workflow is named, and not who calls it",
		"`job_workflow_ref` says which file defines the job. Whoever calls that workflow chooses its inputs, and gets the credential used for them.",
		"Match `repository_id` or `workflow_ref` as well."},
	{"environment-unprotected", Warning, "nothing makes sure that the environment is protected",
		"GitHub creates an environment for whoever names it in a workflow, without any rule, and the claim is the same.",
		"Add `require: [protected_environment]`: the exchange then asks GitHub at each request."},

	// Conditions.
	{"unanchored-match", Error, "a part of the text decides",
		"`matches` looks for the pattern anywhere in the text, and so do `contains` and `endsWith`: `refs/heads/main` is in `refs/heads/main-evil`, too.",
		"Write `^…$` around the whole pattern, or compare with `==` or `in`."},
	{"alternation-unbound", Error, "`^` and `$` do not hold all alternatives",
		"`^a|b$` means: begins with a, or ends with b. The rest of the text may be anything.",
		"Group the alternatives: `^(a|b)$`. For whole values, `in [\"a\", \"b\"]` is plainer."},
	{"prefix-too-wide", Warning, "a prefix or pattern lets everything through",
		"It reads like a restriction, and every branch, tag or repository passes it.",
		"Go on to where the names differ: `refs/tags/v` and not `refs/tags/`."},
	{"refuses-by-name", Warning, "a condition names what is refused",
		"Everything else is let in, also what GitHub or a colleague adds next year.",
		"Name what is let in, with `==` or `in`."},
	{"when-constant", Warning, "a condition that looks at nothing",
		"It holds for everybody, or for nobody.",
		"Let it read `claims` or `inputs`, or leave it out."},

	// What it gives.
	{"permissions-wide", Warning, "more permission than the purpose speaks of",
		"What the work does not need is only of use to whoever steals it. Some permissions can give their holder further ones.",
		"Take the permission out, make it `read`, or say in `purpose` what it is for."},
	{"names-in-block", Warning, "repositories are named without their ids",
		"At each issue the name decides. After a rename or a removal it may mean another repository.",
		"Add `repository_ids`, in the same order; the names then are words for people."},
	{"ttl-long", Warning, "it lives longer than work with it takes",
		"If nobody gives it back, that is how long a stolen credential works. Some die before by themselves, and the promise is empty.",
		"Set `limits: {ttl: …}` to what the step takes at worst."},

	// What is accepted.
	{"accept-unused", Warning, "something is accepted that is not found",
		"The reason is out of date, and would silence the finding when it comes back for another reason.",
		"Remove the line from `accept`."},

	// What its tests say.
	{TaskTest, Error, "a test of a task does not come out as it says",
		"Either the task lets in somebody whom its writer wants to keep out, or it refuses somebody who does the work, or the test cannot be read and tests nothing.",
		"Read the explanation: it shows each rule, what it wants and what it saw. Then change the task, or the test."},
}
