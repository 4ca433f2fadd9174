package exchange

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// Checks is the CI system of one issuer, asked about what no claim says. Any error
// means that there was no answer, and then nothing is given.
type Checks interface {
	// Protection names the rules that protect an environment of a repository, which is
	// given by its id, as they are now. No rule, no protection. A rule that binds only
	// where some branch is protected is named ProtectedBranches.
	Protection(ctx context.Context, repository, environment string) ([]string, error)
	// WorkflowFile returns a file of a repository, given as owner/name, at a commit,
	// given by its full digest.
	WorkflowFile(ctx context.Context, repository, path, commit string) ([]byte, error)
}

// ProtectedBranches is the rule by which an environment admits protected branches alone.
// Without any such branch in the repository it admits every one (GitHub's docs,
// "Deployments and environments").
const ProtectedBranches = "protected_branches"

const (
	checksTake  = 10 * time.Second // all of one exchange; its caller waits
	shapesKept  = 1000
	looseShown  = 3
	commitShown = 12 // digits
)

// errUnanswered: a failure to ask, which is no verdict, and denies all the same.
var errUnanswered = errors.New("the CI system could not be asked for what the task requires")

// unmet is something that a task requires and that does not hold. Its words are about
// the workload's own repository and files, which a job can read anyway, so they may be
// told to whoever the policy has let in.
type unmet struct{ required, saw string }

func (e *unmet) Error() string {
	return fmt.Sprintf("the task requires %s: %s", e.required, e.saw)
}

// check asks for what a task requires beyond its claims. Nothing is used up yet: who is
// refused here may come again with the same subject token.
func (x *Exchange) check(ctx context.Context, w identity.Workload, g policy.Grant) error {
	if g.Require == (policy.Required{}) {
		return nil
	}
	words := strings.Join(g.Require.Words(), ", ")
	asked, configured := x.Checks[w.Issuer]
	if !configured {
		return &unmet{words, "this exchange cannot ask the CI system of the issuer; its operators can set that up"}
	}
	bounded, done := context.WithTimeout(ctx, checksTake)
	defer done()
	if g.Require.ProtectedEnvironment {
		if err := checkEnvironment(bounded, asked, w); err != nil {
			return err
		}
	}
	if g.Require.PinnedWorkflow {
		return x.checkWorkflow(bounded, asked, w)
	}
	return nil
}

func unanswered(err error) error { return fmt.Errorf("%w: %w", errUnanswered, err) }

// checkEnvironment asks whether anything protects the environment that the job names.
// Which rules those are, and that administrators may pass them by, is the repository's
// own business.
func checkEnvironment(ctx context.Context, asked Checks, w identity.Workload) error {
	no := &unmet{required: policy.Required{ProtectedEnvironment: true}.Words()[0]}
	name, named := w.Claims.Text("environment")
	if !named || name == "" {
		no.saw = "the job names no environment"
		return no
	}
	rules, err := asked.Protection(ctx, w.Job.Repository, name)
	if err != nil {
		return unanswered(err)
	}
	// The job runs, so the environment has admitted its ref. If the rule binds anybody,
	// that ref is a protected one.
	onProtected, _ := w.Claims.Text("ref_protected")
	binding := slices.DeleteFunc(slices.Clone(rules), func(rule string) bool { return rule == ProtectedBranches && onProtected != "true" })
	switch {
	case len(rules) == 0:
		no.saw = fmt.Sprintf("environment %q has no protection rules", name)
		return no
	case len(binding) == 0:
		no.saw = fmt.Sprintf("environment %q admits protected branches alone and yet admitted a ref that is not protected, so nothing protects it", name)
		return no
	}
	return nil
}

// workflowFile is one file at one commit. What it holds never changes.
type workflowFile struct{ issuer, repository, path, commit string }

func (f workflowFile) String() string {
	return fmt.Sprintf("workflow %s/%s at %s", f.repository, f.path, f.commit[:commitShown])
}

// checkWorkflow examines the file of the workflow that runs and, where another defines
// the job, that one, too. Of reusable workflows that call each other the claims name
// the first and the last alone; those in between run in jobs of their own.
func (x *Exchange) checkWorkflow(ctx context.Context, asked Checks, w identity.Workload) error {
	no := &unmet{required: policy.Required{PinnedWorkflow: true}.Words()[0]}
	files, why := workflowFiles(w)
	if why != "" {
		no.saw = why
		return no
	}
	for _, f := range files {
		loose, err := x.shapes.of(ctx, asked, f)
		if err != nil {
			return unanswered(err)
		}
		if loose != "" {
			no.saw = f.String() + ": " + loose
			return no
		}
	}
	return nil
}

// workflowFiles reads from the claims which files a job comes from. job_workflow_ref
// is only certain to be there where a reusable workflow defines the job.
func workflowFiles(w identity.Workload) (files []workflowFile, why string) {
	for _, claim := range []string{"workflow", "job_workflow"} {
		ref, _ := w.Claims.Text(claim + "_ref")
		commit, _ := w.Claims.Text(claim + "_sha")
		if ref == "" && commit == "" && claim != "workflow" {
			continue
		}
		parts := refOfWorkflow.FindStringSubmatch(ref)
		switch {
		case parts == nil:
			return nil, fmt.Sprintf("the claim %s_ref, %.200q, names no file in .github/workflows", claim, ref)
		case !fullCommit.MatchString(commit):
			return nil, fmt.Sprintf("the claim %s_sha, %.80q, is no commit", claim, commit)
		}
		f := workflowFile{w.Issuer, strings.ToLower(parts[1]), parts[2], commit}
		if !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	return files, ""
}

var (
	// As in acme/widget/.github/workflows/release.yml@refs/heads/main. A file's name has
	// no slash and every ref has one, so there is one way to read it.
	refOfWorkflow = regexp.MustCompile(`\A([A-Za-z0-9_-]+/[A-Za-z0-9._-]+)/(\.github/workflows/[^/]+\.ya?ml)@(refs/.+|[0-9a-f]{40})\z`)
	fullCommit    = regexp.MustCompile(`\A[0-9a-f]{40}\z`)
)

// shapes remembers what was found in workflow files. The zero value is empty.
type shapes struct {
	mu    sync.Mutex
	known map[workflowFile]string // what is loose, in words; empty where nothing is
}

func (s *shapes) of(ctx context.Context, asked Checks, f workflowFile) (loose string, err error) {
	s.mu.Lock()
	loose, seen := s.known[f]
	s.mu.Unlock()
	if seen {
		return loose, nil
	}
	data, err := asked.WorkflowFile(ctx, f.repository, f.path, f.commit)
	if err != nil {
		return "", err
	}
	loose = inWords(policy.Shape(f.path, data))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= shapesKept {
		s.known = map[workflowFile]string{}
	}
	s.known[f] = loose
	return loose, nil
}

// inWords says the first few and counts the rest.
func inWords(found []policy.Looseness) string {
	var words []string
	for _, l := range found[:min(len(found), looseShown)] {
		words = append(words, l.String())
	}
	if more := len(found) - looseShown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}
