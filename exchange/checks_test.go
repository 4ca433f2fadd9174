package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

const (
	commit  = "8b42d06e1c2e3f4a5b6c7d8e9f0a1b2c3d4e5f60"
	another = "d06e8b421c2e3f4a5b6c7d8e9f0a1b2c3d4e5f61"
	pinned  = "on: push\njobs: {a: {steps: [{uses: actions/checkout@" + commit + "}]}}\n"
	loose   = "on: push\njobs: {a: {steps: [{uses: actions/checkout@v4}]}}\n"
)

// oracle answers the checks of the stories and counts how often it was asked.
type oracle struct {
	mu    sync.Mutex
	rules []string
	files map[string]string // by repository/path@commit
	fault error
	asked int
}

func (c *oracle) Protection(_ context.Context, repository, environment string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if repository != "456789" || environment != "release" {
		return nil, fmt.Errorf("asked for %s of %s", environment, repository)
	}
	return c.rules, c.fault
}

func (c *oracle) WorkflowFile(ctx context.Context, repository, path, commit string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	text, known := c.files[repository+"/"+path+"@"+commit]
	if !known && c.fault == nil {
		return nil, errors.New("404")
	}
	return []byte(text), errors.Join(c.fault, ctx.Err())
}

// claimed verifies every token into a workload with these claims; its name is the jti.
type claimed identity.Claims

func (c claimed) Verify(_ context.Context, token string) (identity.Workload, error) {
	w, err := who{}.Verify(context.Background(), token+"/push")
	w.Job.Repository = "456789"
	for name, value := range c {
		if w.Claims[name] = value; value == nil {
			delete(w.Claims, name)
		}
	}
	return w, err
}

// honest are the claims of a job of acme/widget that its own workflow defines; change
// makes them others, nil takes one away.
func honest(change claimed) claimed {
	ref := "acme/widget/.github/workflows/release.yml@refs/heads/main"
	c := claimed{
		"environment": "release", "ref_protected": "true",
		"workflow_ref": ref, "workflow_sha": commit, "job_workflow_ref": ref, "job_workflow_sha": commit,
	}
	for name, value := range change {
		c[name] = value
	}
	return c
}

// requiring is a stage whose task requires this.
func requiring(t *testing.T, require string, system *oracle) *stage {
	t.Helper()
	st := set(t)
	text := strings.Replace(taskFile, "event_name: push\n", "event_name: push\n      environment: release\n", 1) + "require: [" + require + "]\n"
	tasks, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(text)}}, policy.Check{
		Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{"vault": st.vault},
	})
	if err != nil {
		t.Fatal(err)
	}
	st.Policy = func() *policy.Set { return tasks }
	st.Checks = map[string]exchange.Checks{"github": system}
	st.Verifier = honest(nil)
	return st
}

func TestWhatATaskRequiresDecidesBesideItsClaims(t *testing.T) {
	const (
		own  = "acme/widget/.github/workflows/release.yml@" + commit
		lent = "acme/ci/.github/workflows/publish.yaml@" + another
	)
	reused := claimed{"job_workflow_ref": "Acme/ci/.github/workflows/publish.yaml@refs/tags/v1", "job_workflow_sha": another}
	for name, c := range map[string]struct {
		require string
		system  *oracle
		change  claimed
		says    string // empty: given
	}{
		"a reviewer":                        {"protected_environment", &oracle{rules: []string{"required_reviewers"}}, nil, ""},
		"no rule":                           {"protected_environment", &oracle{}, nil, `the task requires protected_environment: environment "release" has no protection rules`},
		"protected branches, from one":      {"protected_environment", &oracle{rules: []string{"protected_branches"}}, nil, ""},
		"protected branches, where none is": {"protected_environment", &oracle{rules: []string{"protected_branches"}}, claimed{"ref_protected": "false"}, `environment "release" admits protected branches alone and yet admitted a ref that is not protected`},
		"protected branches, unsaid":        {"protected_environment", &oracle{rules: []string{"protected_branches"}}, claimed{"ref_protected": nil}, "nothing protects it"},
		"a wait beside it":                  {"protected_environment", &oracle{rules: []string{"protected_branches", "wait_timer"}}, claimed{"ref_protected": "false"}, ""},
		"a pinned workflow":                 {"pinned_workflow", &oracle{files: map[string]string{own: pinned}}, nil, ""},
		"a loose workflow":                  {"pinned_workflow", &oracle{files: map[string]string{own: loose}}, nil, `the task requires pinned_workflow: workflow acme/widget/.github/workflows/release.yml at 8b42d06e1c2e: line 2: step 1 of job "a" uses "actions/checkout@v4", which is not pinned by digest`},
		"no definer named":                  {"pinned_workflow", &oracle{files: map[string]string{own: pinned}}, claimed{"job_workflow_ref": nil, "job_workflow_sha": nil}, ""},
		"a pinned definer":                  {"pinned_workflow", &oracle{files: map[string]string{own: pinned, lent: pinned}}, reused, ""},
		"a loose definer":                   {"pinned_workflow", &oracle{files: map[string]string{own: pinned, lent: loose}}, reused, "workflow acme/ci/.github/workflows/publish.yaml at d06e8b421c2e: line 2"},
		"a loose caller":                    {"pinned_workflow", &oracle{files: map[string]string{own: loose, lent: pinned}}, reused, "workflow acme/widget/.github/workflows/release.yml at 8b42d06e1c2e: line 2"},
		"no workflow named":                 {"pinned_workflow", &oracle{}, claimed{"workflow_ref": nil}, `the claim workflow_ref, "", names no file in .github/workflows`},
		"no commit named":                   {"pinned_workflow", &oracle{}, claimed{"workflow_sha": nil}, `the claim workflow_sha, "", is no commit`},
		"a branch for a commit":             {"pinned_workflow", &oracle{}, claimed{"workflow_sha": "main"}, `the claim workflow_sha, "main", is no commit`},
		"a definer without a commit":        {"pinned_workflow", &oracle{files: map[string]string{own: pinned}}, claimed{"job_workflow_sha": nil}, `the claim job_workflow_sha, "", is no commit`},
		"a workflow that GitHub makes":      {"pinned_workflow", &oracle{}, claimed{"workflow_ref": "acme/widget/dynamic/pages/build@refs/heads/main"}, "names no file in .github/workflows"},
		"a way out of the folder":           {"pinned_workflow", &oracle{}, claimed{"workflow_ref": "acme/widget/.github/workflows/../x.yml@refs/heads/main"}, "names no file in .github/workflows"},
		"both, one of them loose":           {"protected_environment, pinned_workflow", &oracle{rules: []string{"wait_timer"}, files: map[string]string{own: loose}}, nil, "the task requires pinned_workflow"},
		"both":                              {"protected_environment, pinned_workflow", &oracle{rules: []string{"wait_timer"}, files: map[string]string{own: pinned}}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			st := requiring(t, c.require, c.system)
			st.Verifier = honest(c.change)
			st.Owners = nil // a failed check is told to whoever the policy has let in
			_, err := st.ask(t.Context(), "jti-1")
			if c.says == "" {
				if err != nil || st.vault.made != 1 {
					t.Errorf("%v, %d made", err, st.vault.made)
				}
				return
			}
			var no *exchange.Refused
			if !errors.As(err, &no) || no.Kind != exchange.NotAllowed || !strings.Contains(no.Why, c.says) {
				t.Fatalf("%#v\nwant %s", err, c.says)
			}
			last := st.log(t)[0]
			if len(st.log(t)) != 1 || last.Event != audit.Denied || last.ID != no.AuditID || !strings.Contains(last.Reason, c.says) || !strings.Contains(c.require, last.Rule) || last.Rule == "" {
				t.Errorf("written down as %+v", last)
			}
			if st.vault.made != 0 {
				t.Errorf("%d credentials were made", st.vault.made)
			}
		})
	}
}

func TestNoAnswerDeniesAndUsesNothingUp(t *testing.T) {
	for _, require := range []string{"protected_environment", "pinned_workflow"} {
		down := &oracle{fault: errors.New("GitHub answered 502"), rules: []string{"wait_timer"},
			files: map[string]string{"acme/widget/.github/workflows/release.yml@" + commit: pinned}}
		st := requiring(t, require, down)
		_, err := st.ask(t.Context(), "jti-1")
		var no *exchange.Refused
		if !errors.As(err, &no) || no.Kind != exchange.Unchecked || !strings.Contains(no.Why, "502") || st.vault.made != 0 {
			t.Fatalf("%s: %#v, %d made", require, err, st.vault.made)
		}
		if got := st.events(t); got != "unserved" {
			t.Errorf("%s: audit log: %s", require, got)
		}
		st.Owners = nil
		if _, err := st.ask(t.Context(), "jti-1"); !errors.As(err, &no) || no.Why != "" {
			t.Errorf("%s: whose owner is not listed is told %q", require, no.Why)
		}
		down.fault = nil
		if _, err := st.ask(t.Context(), "jti-1"); err != nil {
			t.Errorf("%s: with the same subject token, once there is an answer: %v", require, err)
		}
	}
}

func TestAFileOfADeafSystemIsNotTakenForAnother(t *testing.T) {
	system := &oracle{}
	st := requiring(t, "pinned_workflow", system)
	_, err := st.ask(t.Context(), "jti-1")
	var no *exchange.Refused
	if !errors.As(err, &no) || no.Kind != exchange.Unchecked {
		t.Fatalf("a file that is not shown: %#v", err)
	}
	ctx, gone := context.WithCancel(t.Context())
	gone()
	system.files = map[string]string{"acme/widget/.github/workflows/release.yml@" + commit: loose}
	if _, err := st.ask(ctx, "jti-1"); !errors.As(err, &no) || no.Kind == exchange.NotAllowed || st.vault.made != 0 {
		t.Errorf("of a caller that went away: %#v", err)
	}
}

func TestAnIssuerThatNobodyCanAskDenies(t *testing.T) {
	st := requiring(t, "pinned_workflow, protected_environment", &oracle{})
	st.Checks = map[string]exchange.Checks{"ghes": &oracle{rules: []string{"wait_timer"}}}
	_, err := st.ask(t.Context(), "jti-1")
	var no *exchange.Refused
	if !errors.As(err, &no) || no.Kind != exchange.NotAllowed || st.vault.made != 0 ||
		no.Why != "the task requires protected_environment, pinned_workflow: this exchange cannot ask the CI system of the issuer; its operators can set that up" {
		t.Errorf("%#v", err)
	}
}

func TestAWorkflowFileIsReadOnceAndAnEnvironmentEachTime(t *testing.T) {
	system := &oracle{rules: []string{"wait_timer"}, files: map[string]string{"acme/widget/.github/workflows/release.yml@" + commit: pinned}}
	st := requiring(t, "pinned_workflow, protected_environment", system)
	ask := func(jti string) {
		t.Helper()
		a, err := st.ask(t.Context(), jti)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := st.EndByToken(t.Context(), a.LeaseToken); err != nil {
			t.Fatal(err)
		}
	}
	ask("jti-1")
	ask("jti-2")
	ask("jti-3")
	if system.asked != 4 {
		t.Errorf("asked %d times; want once for the file and three times for the environment", system.asked)
	}
	// Others push it out, since what is remembered has a bound.
	for n := range 1000 {
		c := fmt.Sprintf("%040x", n)
		system.files["acme/widget/.github/workflows/release.yml@"+c] = loose
		st.Verifier = honest(claimed{"workflow_sha": c, "job_workflow_sha": c})
		if _, err := st.ask(t.Context(), "jti-4"); err == nil {
			t.Fatal("a loose workflow was let in")
		}
	}
	before := system.asked
	st.Verifier = honest(nil)
	ask("jti-5")
	if system.asked != before+2 {
		t.Errorf("asked %d times more; want 2: it is forgotten and read again", system.asked-before)
	}
}

func TestATaskThatRequiresNothingAsksNobody(t *testing.T) {
	st := set(t)
	system := &oracle{fault: errors.New("asked")}
	st.Checks = map[string]exchange.Checks{"github": system}
	if _, err := st.ask(t.Context(), "jti-1/push"); err != nil || system.asked != 0 {
		t.Errorf("%v, asked %d times", err, system.asked)
	}
	st.vault.mu.Lock()
	defer st.vault.mu.Unlock()
	if st.vault.made != 1 {
		t.Errorf("%d credentials were made", st.vault.made)
	}
}

func TestWhoeverThePolicyRefusesCausesNoQuestion(t *testing.T) {
	system := &oracle{rules: []string{"wait_timer"}}
	st := requiring(t, "protected_environment", system)
	st.Verifier = honest(claimed{"repository_id": "4"})
	_, err := st.ask(t.Context(), "jti-1")
	var denial *policy.Denial
	if !errors.As(err, &denial) || system.asked != 0 {
		t.Errorf("%v, asked %d times", err, system.asked)
	}
}
