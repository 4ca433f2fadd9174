package main

import (
	"slices"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// recipe is one of docs/tasks.md, as its tests see it.
type recipe struct {
	name       string // its heading
	workflow   string // the file that runs
	inputs     map[string]string
	gives      map[string]string // what each of its tasks gives to its first job
	nearMisses map[string]nearMiss
	jobs       []pageJob
	holds      []held
}

// nearMiss is who nearly may have the recipe's tasks.
type nearMiss struct {
	claims map[string]any
	inputs map[string]string
	ttl    time.Duration
}

// pageJob is one job of the recipe's workflow, and the requests that it makes GitHub
// say yes to. replace says what GitHub's server, or something that is not simulated
// here, makes of the file before the runner sees it.
type pageJob struct {
	spec    githubsim.JobSpec
	inputs  map[string]string // of the workflow
	replace []string
	does    []string
}

// held is what the holder of one task's credential can do, and what it cannot.
type held struct {
	task   string
	can    string // METHOD /path
	cannot []string
}

const (
	onMain    = "refs/heads/main"
	onTag     = "refs/tags/v1.2.3"
	ciCommit  = "d06e8b42d06e8b42d06e8b42d06e8b42d06e8b42"
	ciNotes   = "acme/ci/.github/workflows/notes.yml@" + ciCommit
	issuePost = ` {"title":"x"}`
	filePut   = ` {"message":"x","content":"eA=="}`
	makeTag   = ` {"tag_name":"v9"}`
)

func one(claim string, value any) nearMiss { return nearMiss{claims: map[string]any{claim: value}} }

func onWorkflow(repository, file, event string) githubsim.JobSpec {
	return githubsim.JobSpec{Repository: repository, Workflow: ".github/workflows/" + file, Event: event, IDToken: true}
}

func inEnvironment(name, file, event, ref string) githubsim.JobSpec {
	return githubsim.JobSpec{Repository: "acme/widget", Workflow: ".github/workflows/" + file, Event: event, Ref: ref, Environment: name, IDToken: true}
}

func recipes() []recipe {
	return slices.Concat(writingRecipes(), []recipe{migration()}, readingRecipes(), manyJobs())
}

func writingRecipes() []recipe {
	return []recipe{{
		name: "1. Release", workflow: "release.yml",
		gives: map[string]string{"make-release": "contents: write on acme/widget (id 456789)"},
		nearMisses: map[string]nearMiss{
			"a branch":                 one("ref", onMain),
			"a tag of another form":    one("ref", "refs/tags/v1.2.3-rc1"),
			"a tag that only ends so":  one("ref", "refs/tags/x-v1.2.3"),
			"another environment":      one("environment", "staging"),
			"no environment":           one("environment", nil),
			"another repository":       one("repository_id", "456790"),
			"a pull request":           one("event_name", "pull_request"),
			"longer than the task":     {ttl: 6 * time.Minute},
			"an input that is not his": {inputs: map[string]string{"version": "v1.2.3"}},
		},
		jobs: []pageJob{{
			spec: inEnvironment("release", "release.yml", "push", onTag),
			does: []string{"POST /repos/acme/widget/releases"},
		}},
		holds: []held{{
			task: "make-release", can: "GET /repos/acme/widget/releases",
			cannot: []string{"POST /repos/acme/widget/issues" + issuePost, "POST /repos/acme/design/releases" + makeTag},
		}},
	}, {
		name: "2. Package publish", workflow: "publish.yml", inputs: map[string]string{"version": "v1.2.3"},
		gives: map[string]string{"publish-package": "contents: write on acme/tap (id 456792)"},
		nearMisses: map[string]nearMiss{
			"a version that is not the tag": {inputs: map[string]string{"version": "v1.2.4"}},
			"a version of another form":     {inputs: map[string]string{"version": "v1.2"}},
			"no version":                    {inputs: map[string]string{}},
			"an input that is not declared": {inputs: map[string]string{"version": "v1.2.3", "registry": "x"}},
			"a branch of that name":         one("ref", "refs/heads/v1.2.3"),
			"another environment":           one("environment", "release"),
			"another repository":            one("repository_id", "456790"),
		},
		jobs: []pageJob{{
			spec: inEnvironment("packages", "publish.yml", "push", onTag),
			does: []string{"PUT /repos/acme/tap/contents/widget/v1.2.3.json"},
		}},
		holds: []held{{
			task: "publish-package", can: "GET /repos/acme/tap/contents/README.md",
			cannot: []string{"PUT /repos/acme/widget/contents/x" + filePut, "POST /repos/acme/tap/issues" + issuePost},
		}},
	}, {
		name: "3. Deploy", workflow: "deploy.yml",
		gives: map[string]string{"deploy": "contents: write on acme/fleet-staging (id 456795)"},
		nearMisses: map[string]nearMiss{
			"a branch":            one("ref", "refs/heads/topic"),
			"a push":              one("event_name", "push"),
			"another environment": one("environment", "preview"),
			"no environment":      one("environment", nil),
			"another repository":  one("repository_id", "456790"),
		},
		jobs: []pageJob{{
			spec:   inEnvironment("staging", "deploy.yml", "workflow_dispatch", onMain),
			inputs: map[string]string{"stage": "staging"}, does: []string{"PUT /repos/acme/fleet-staging/contents/RUN.yaml"},
		}, {
			spec:   inEnvironment("production", "deploy.yml", "workflow_dispatch", onMain),
			inputs: map[string]string{"stage": "production"}, does: []string{"PUT /repos/acme/fleet-production/contents/RUN.yaml"},
		}},
		holds: []held{{
			task: "deploy", can: "GET /repos/acme/fleet-staging/contents/README.md",
			cannot: []string{"PUT /repos/acme/fleet-production/contents/x" + filePut, "PUT /repos/acme/fleet-staging/contents/.github/workflows/x.yml" + filePut},
		}},
	}}
}

func migration() recipe {
	return recipe{
		name: "6. Migration", workflow: "migrate.yml",
		gives: map[string]string{
			"migrate-read":  "issues: read on acme/legacy (id 456793)",
			"migrate-write": "issues: write on acme/widget (id 456789)",
		},
		nearMisses: map[string]nearMiss{
			"a push":              one("event_name", "push"),
			"a branch":            one("ref", "refs/heads/topic"),
			"another environment": one("environment", "release"),
			"the old repository":  one("repository_id", "456793"),
		},
		jobs: []pageJob{{
			spec: inEnvironment("migration", "migrate.yml", "workflow_dispatch", onMain),
			does: []string{"GET /repos/acme/legacy/issues", "POST /repos/acme/widget/issues", "POST /repos/acme/widget/issues"},
		}},
		holds: []held{{
			task: "migrate-read", can: "GET /repos/acme/legacy/issues",
			cannot: []string{"POST /repos/acme/legacy/issues" + issuePost, "POST /repos/acme/widget/issues" + issuePost},
		}, {
			task: "migrate-write", can: "POST /repos/acme/widget/issues" + issuePost,
			cannot: []string{"GET /repos/acme/legacy/issues", "GET /repos/acme/widget/contents/README.md"},
		}},
	}
}

func readingRecipes() []recipe {
	return []recipe{{
		name: "4. Cross-repository checkout", workflow: "build.yml",
		gives: map[string]string{"read-design": "contents: read on acme/design (id 456790)"},
		nearMisses: map[string]nearMiss{
			"a pull request":     one("event_name", "pull_request"),
			"another workflow":   one("workflow_ref", "acme/widget/.github/workflows/other.yml@"+onMain),
			"a branch's version": one("workflow_ref", "acme/widget/.github/workflows/build.yml@refs/heads/topic"),
			"not protected":      one("ref_protected", "false"),
			"another repository": one("repository_id", "456794"),
		},
		jobs: []pageJob{{
			spec: onWorkflow("acme/widget", "build.yml", "push"),
			// The simulated GitHub does not speak git: a file is read instead, with the same token.
			replace: []string{checkoutOfThePage, checkoutByCurl},
			does:    []string{"GET /repos/acme/design/contents/README.md"},
		}},
		holds: []held{{
			task: "read-design", can: "GET /repos/acme/design/contents/README.md",
			cannot: []string{"PUT /repos/acme/design/contents/x" + filePut, "GET /repos/acme/gadget/contents/README.md"},
		}},
	}, {
		name: "5. Backup", workflow: "backup.yml",
		gives: map[string]string{"backup-read": "contents: read, issues: read on acme/widget (id 456789), acme/design (id 456790)"},
		nearMisses: map[string]nearMiss{
			"started by hand":    one("event_name", "workflow_dispatch"),
			"another workflow":   one("workflow_ref", "acme/vault/.github/workflows/restore.yml@"+onMain),
			"another repository": one("repository_id", "456789"),
			"longer":             {ttl: time.Hour},
		},
		jobs: []pageJob{{
			spec: onWorkflow("acme/vault", "backup.yml", "schedule"),
			does: []string{
				"GET /repos/acme/widget/issues", "GET /repos/acme/widget/releases",
				"GET /repos/acme/design/issues", "GET /repos/acme/design/releases",
			},
		}},
		holds: []held{{
			task: "backup-read", can: "GET /repos/acme/widget/contents/README.md",
			cannot: []string{"POST /repos/acme/widget/issues" + issuePost, "PUT /repos/acme/design/contents/x" + filePut, "GET /repos/acme/gadget/issues"},
		}},
	}, {
		name: "7. Agent", workflow: "agent.yml",
		gives: map[string]string{"agent-report": "contents: read, issues: write on acme/widget (id 456789)"},
		nearMisses: map[string]nearMiss{
			"an issue":             one("event_name", "issues"),
			"a comment":            one("event_name", "issue_comment"),
			"another workflow":     one("workflow_ref", "acme/widget/.github/workflows/other.yml@"+onMain),
			"a machine that stays": one("runner_environment", "self-hosted"),
			"longer":               {ttl: 16 * time.Minute},
		},
		jobs: []pageJob{{
			spec: onWorkflow("acme/widget", "agent.yml", "schedule"),
			does: []string{"GET /repos/acme/widget/contents/README.md", "POST /repos/acme/widget/issues"},
		}},
		holds: []held{{
			task: "agent-report", can: "POST /repos/acme/widget/issues" + issuePost,
			cannot: []string{"PUT /repos/acme/widget/contents/x" + filePut, "POST /repos/acme/widget/releases" + makeTag, "POST /repos/acme/design/issues" + issuePost},
		}},
	}, {
		name: "10. Self-hosted", workflow: "fetch.yml",
		gives: map[string]string{"fetch-firmware": "contents: read on acme/widget (id 456789)"},
		nearMisses: map[string]nearMiss{
			"a hosted runner":    one("runner_environment", "github-hosted"),
			"a pull request":     one("event_name", "pull_request"),
			"another workflow":   one("workflow_ref", "acme/plant/.github/workflows/other.yml@"+onMain),
			"another repository": one("repository_id", "456789"),
		},
		jobs: []pageJob{{spec: selfHosted(), does: []string{"GET /repos/acme/widget/releases/latest"}}},
		holds: []held{{
			task: "fetch-firmware", can: "GET /repos/acme/widget/releases/latest",
			cannot: []string{"POST /repos/acme/widget/releases" + makeTag, "GET /repos/acme/plant/contents/README.md"},
		}},
	}}
}

func selfHosted() githubsim.JobSpec {
	spec := onWorkflow("acme/plant", "fetch.yml", "schedule")
	spec.RunnerEnvironment = "self-hosted"
	return spec
}

func manyJobs() []recipe {
	leg := func(repository string) pageJob {
		return pageJob{
			spec: onWorkflow("acme/widget", "sync.yml", "push"),
			// GitHub makes the legs of a matrix before a runner sees them.
			replace: []string{"    strategy:\n      matrix: {repository: [design, gadget]}\n", "", "${{ matrix.repository }}", repository},
			does:    []string{"PUT /repos/acme/" + repository + "/contents/LICENSE"},
		}
	}
	called := func(repository string) pageJob {
		spec := onWorkflow(repository, "tagged.yml", "push")
		spec.Ref, spec.Claims = "refs/tags/v2.0.0", map[string]any{"job_workflow_ref": ciNotes, "job_workflow_sha": ciCommit}
		return pageJob{spec: spec, inputs: map[string]string{"title": "A new version"}, does: []string{"POST /repos/" + repository + "/releases"}}
	}
	return []recipe{{
		name: "8. Matrix", workflow: "sync.yml", inputs: map[string]string{"repository": "design"},
		gives: map[string]string{"sync-license": "contents: write on acme/design (id 456790)"},
		nearMisses: map[string]nearMiss{
			"a repository that is not listed": {inputs: map[string]string{"repository": "widget"}},
			"no repository":                   {inputs: map[string]string{}},
			"two at once":                     {inputs: map[string]string{"repository": "design,gadget"}},
			"a branch":                        one("ref_protected", "false"),
			"another workflow":                one("workflow_ref", "acme/widget/.github/workflows/other.yml@"+onMain),
		},
		jobs: []pageJob{leg("design"), leg("gadget")},
		holds: []held{{
			task: "sync-license", can: "GET /repos/acme/design/contents/README.md",
			cannot: []string{"PUT /repos/acme/gadget/contents/x" + filePut, "POST /repos/acme/design/issues" + issuePost},
		}},
	}, {
		name: "9. Reusable workflow", workflow: "notes.yml",
		gives: map[string]string{"publish-notes": "contents: write on repository 456789"},
		nearMisses: map[string]nearMiss{
			"the same steps in a workflow of one's own": one("job_workflow_ref", "acme/widget/.github/workflows/notes.yml@"+onTag),
			"another commit of the workflow":            one("job_workflow_ref", "acme/ci/.github/workflows/notes.yml@"+onMain),
			"a repository that is not listed":           one("repository_id", "456790"),
			"a branch":                                  one("ref", "refs/heads/v1"),
			"a pull request":                            one("event_name", "pull_request"),
		},
		jobs: []pageJob{called("acme/widget"), called("acme/gadget")},
		holds: []held{{
			task: "publish-notes", can: "GET /repos/acme/widget/releases",
			cannot: []string{"POST /repos/acme/gadget/releases" + makeTag, "POST /repos/acme/widget/issues" + issuePost},
		}},
	}}
}

const checkoutOfThePage = `      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          repository: acme/design
          token: ${{ steps.key.outputs.token }}
          path: design
          persist-credentials: false
`

const checkoutByCurl = `      - shell: bash
        env:
          TOKEN: ${{ steps.key.outputs.token }}
        run: |
          printf 'Authorization: Bearer %s\n' "$TOKEN" | curl -sS --fail-with-body --header @- "$GITHUB_API_URL/repos/acme/design/contents/README.md"
`
