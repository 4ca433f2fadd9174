package policy_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const octoCorpus = "../../testdata/octosts/"

const githubIssuer = "https://token.actions.githubusercontent.com"

func octoOptions(change func(*policy.OctoSTS)) policy.OctoSTS {
	o := policy.OctoSTS{
		Issuers: []identity.Issuer{{Name: "github", Kind: "github", URL: githubIssuer}, {Name: "ghes", Kind: "github", URL: "https://github.example.com/_services/token"}},
		Scope:   "acme/widget", OwnerID: "123456", RepositoryID: "456789", Events: []string{"push", "pull_request", "workflow_dispatch"},
	}
	if change != nil {
		change(&o)
	}
	return o
}

// loaded reads an imported task as the exchange does.
func loaded(made policy.Imported, o policy.OctoSTS) (*policy.Set, error) {
	return policy.Load(fstest.MapFS{made.Task + ".yaml": {Data: made.Text}},
		policy.Check{Issuers: o.Issuers, Backends: map[string]policy.Scoper{"github": github.New(github.Options{})}})
}

func imported(t testing.TB, file string, o policy.OctoSTS) (policy.Imported, []byte) {
	t.Helper()
	data, err := os.ReadFile(octoCorpus + file)
	if err != nil {
		t.Fatal(err)
	}
	return policy.ImportOctoSTS(file, data, o), data
}

// An original is octo-sts's own reading of a trust policy, written down a second time
// and from its documentation alone.
type original struct {
	Issuer         string            `yaml:"issuer"`
	IssuerPattern  string            `yaml:"issuer_pattern"`
	Subject        string            `yaml:"subject"`
	SubjectPattern string            `yaml:"subject_pattern"`
	Audience       string            `yaml:"audience"`
	Claims         map[string]string `yaml:"claim_pattern"`
	Permissions    yamlfile.Node     `yaml:"permissions"`
	Repositories   yamlfile.Node     `yaml:"repositories"`
}

func read(t testing.TB, data []byte) (o original) {
	t.Helper()
	n, err := yamlfile.Parse("policy", data)
	if err == nil {
		err = n.Decode(&o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func is(exact, pattern, text string) bool {
	if pattern != "" {
		return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text)
	}
	return exact == text
}

func (o original) allows(claims identity.Claims) bool {
	sub := claims["sub"].(string)
	if !is(o.Issuer, o.IssuerPattern, claims["iss"].(string)) || strings.ContainsAny(sub, " &(){}") || !is(o.Subject, o.SubjectPattern, sub) {
		return false
	}
	for name, pattern := range o.Claims {
		text, isText := claims[name].(string)
		if !isText || !is("", pattern, text) {
			return false
		}
	}
	return true
}

type place struct{ repository, id, owner string }

// workloads are jobs of all sorts: of the repositories meant, of others, and of one that
// has taken a name over.
func workloads() (all []identity.Claims) {
	places := []place{
		{"acme/widget", "456789", "123456"}, {"acme/gadget-x", "456790", "123456"}, {"acme/gadget", "456791", "123456"},
		{"evil/widget", "1", "2"}, {"acme/widget", "999", "998"}, {"acme-evil/widget", "3", "4"}, {"acme/widget-evil", "5", "123456"},
	}
	environments := []string{"", "prod", "canary", "prod:eu", "prod (eu)", "prod-evil"}
	refs := []string{"refs/heads/main", "refs/heads/main-evil", "refs/heads/release-1", "refs/tags/v1.2.3", "refs/tags/v1(x)", "refs/heads/v1"}
	for _, p := range places {
		for _, environment := range environments {
			for _, ref := range refs {
				for _, event := range []string{"push", "pull_request", "pull_request_target", "workflow_dispatch"} {
					all = append(all, workload(p, environment, ref, event))
				}
			}
		}
	}
	return all
}

func workload(p place, environment, ref, event string) identity.Claims {
	if event == "pull_request" {
		ref = "refs/pull/1/merge"
	}
	c := identity.Claims{
		"iss": githubIssuer, "repository": p.repository, "repository_id": p.id, "repository_owner_id": p.owner, "ref": ref, "event_name": event,
		"workflow_ref": p.repository + "/.github/workflows/release.yml@" + ref,
	}
	if environment != "" {
		c["environment"] = environment
	}
	return c
}

// subjects are the two shapes of GitHub's sub for a job.
func subjects(c identity.Claims) []string {
	text := func(name string) string { return strings.ReplaceAll(c[name].(string), ":", "%3A") }
	about := "ref:" + text("ref")
	switch {
	case c["environment"] != nil:
		about = "environment:" + text("environment")
	case c["event_name"] == "pull_request":
		about = "pull_request"
	}
	owner, name, _ := strings.Cut(text("repository"), "/")
	return []string{
		fmt.Sprintf("repo:%s/%s:%s", owner, name, about),
		fmt.Sprintf("repo:%s@%s/%s@%s:%s", owner, text("repository_owner_id"), name, text("repository_id"), about),
	}
}

// allowedBefore: the original lets the job in, whichever of the shapes its sub has.
func (o original) allowedBefore(c identity.Claims) bool {
	return slices.ContainsFunc(subjects(c), func(sub string) bool {
		c["sub"] = sub
		return o.allows(c)
	})
}

// A task lets in whom the policy let in, of the events that were listed and of the
// repositories with the right numbers; and nobody else.
func TestATaskLetsInWhomThePolicyLetInAndNobodyElse(t *testing.T) {
	organization := func(o *policy.OctoSTS) { o.Scope, o.RepositoryID = "acme", "" }
	for file, c := range map[string]struct {
		change func(*policy.OctoSTS)
		gives  string
	}{
		"release.sts.yaml":          {nil, "contents: write on acme/widget (id 456789)"},
		"immutable.sts.yaml":        {func(o *policy.OctoSTS) { o.OwnerID, o.RepositoryID, o.Events = "", "", nil }, "contents: read, deployments: write on acme/widget (id 456789)"},
		"review.sts.yaml":           {func(o *policy.OctoSTS) { o.Events = nil }, "pull_requests: write on acme/widget (id 456789)"},
		"tags.sts.yaml":             {func(o *policy.OctoSTS) { o.RepositoryID = "" }, "contents: write on acme/widget (id 456789)"},
		"whole-repository.sts.yaml": {nil, "contents: read on acme/widget (id 456789)"},
		"two-ways.sts.yaml":         {func(o *policy.OctoSTS) { o.PatternAnchored = true }, "contents: write on acme/widget (id 456789)"},
		"organisation.sts.yaml":     {organization, "contents: read on acme/widget, acme/gadget"},
		"any-repository.sts.yaml":   {organization, "packages: read on acme/widget"},
		"any-environment.sts.yaml":  {nil, "statuses: write on acme/widget (id 456789)"},
	} {
		t.Run(file, func(t *testing.T) {
			o := octoOptions(c.change)
			made, data := imported(t, file, o)
			set, err := loaded(made, o)
			if err != nil || made.Open != 0 {
				t.Fatalf("%d lines open, %v\n%s\n%+v", made.Open, err, made.Text, made.Findings)
			}
			if gives := set.Tasks()[0].Scope.String(); gives != c.gives {
				t.Errorf("gives %s, want %s", gives, c.gives)
			}
			before := read(t, data)
			listed := o.Events
			if len(listed) == 0 {
				listed = []string{"push", "workflow_dispatch", "pull_request"}
			}
			let := 0
			for _, claims := range workloads() {
				numbered := claims["repository_owner_id"] == "123456"
				want := before.allowedBefore(claims) && numbered && slices.Contains(listed, claims["event_name"].(string))
				_, err := set.Authorize(identity.Workload{Issuer: "github", Claims: claims}, policy.Asked{Task: made.Task})
				if (err == nil) != want {
					t.Errorf("lets in %v, want %v (%v): %v\n%s", err == nil, want, err, claims, made.Text)
				}
				if err == nil {
					let++
				}
			}
			if let == 0 {
				t.Error("nobody is let in")
			}
		})
	}
}

func TestAnotherIssuerIsNotLetIn(t *testing.T) {
	o := octoOptions(nil)
	made, _ := imported(t, "release.sts.yaml", o)
	set, err := loaded(made, o)
	if err != nil {
		t.Fatal(err)
	}
	who := workload(place{"acme/widget", "456789", "123456"}, "", "refs/heads/main", "push")
	for issuer, let := range map[string]bool{"github": true, "ghes": false, "": false} {
		if _, err := set.Authorize(identity.Workload{Issuer: issuer, Claims: who}, policy.Asked{Task: "release"}); (err == nil) != let {
			t.Errorf("of issuer %q: %v", issuer, err)
		}
	}
}

// What nobody said becomes a line that is refused until it is filled in.
func TestWhatThePolicyDoesNotSayIsRefusedUntilItIsFilledIn(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		change func(*policy.OctoSTS)
		open   []string
	}{
		"the repository's number": {"release.sts.yaml", func(o *policy.OctoSTS) { o.RepositoryID, o.OwnerID = "", "" }, []string{`      repository_id: "" # DECIDE: the number of acme/widget`}},
		"the owner's number":      {"organisation.sts.yaml", func(o *policy.OctoSTS) { o.Scope, o.RepositoryID, o.OwnerID = "acme", "", "" }, []string{`      repository_owner_id: "" # DECIDE: `}},
		"the events":              {"release.sts.yaml", func(o *policy.OctoSTS) { o.Events = nil }, []string{`      event_name: [] # DECIDE: `}},
		"where it stands":         {"release.sts.yaml", func(o *policy.OctoSTS) { o.Scope = "" }, []string{`    owner: "" # DECIDE: `, `    repositories: [] # DECIDE: `}},
		"anything at all": {"release.sts.yaml", func(o *policy.OctoSTS) { *o = policy.OctoSTS{Issuers: o.Issuers} },
			[]string{`      repository_id: "" # DECIDE: `, `      event_name: [] # DECIDE: `, `    owner: "" # DECIDE: `, `    repositories: [] # DECIDE: `}},
	} {
		t.Run(name, func(t *testing.T) {
			o := octoOptions(c.change)
			made, _ := imported(t, c.file, o)
			if made.Open != len(c.open) {
				t.Errorf("%d lines are open, want %d:\n%s", made.Open, len(c.open), made.Text)
			}
			for _, line := range c.open {
				if !strings.Contains(string(made.Text), "\n"+line) {
					t.Errorf("no line begins with %s:\n%s", line, made.Text)
				}
			}
			if _, err := loaded(made, o); len(yamlfile.Faults(err)) == 0 {
				t.Errorf("taken as it is:\n%s", made.Text)
			}
		})
	}
}

func TestWhatHasNoExactCounterpartIsRefusedWithItsPlace(t *testing.T) {
	const head = "issuer: https://token.actions.githubusercontent.com\n"
	const tail = "permissions: {contents: read}\n"
	subject := func(text string) string { return head + "subject: " + text + "\n" + tail }
	pattern := func(text string) string { return head + "subject_pattern: '" + text + "'\n" + tail }
	claim := func(text string) string {
		return head + "subject: repo:acme/widget:ref:refs/heads/main\nclaim_pattern: {" + text + "}\n" + tail
	}
	for name, c := range map[string]struct{ policy, says string }{
		"an unknown key":                   {subject("repo:acme/widget:pull_request") + "limits: {}\n", `:4:1: unknown key "limits"`},
		"no issuer":                        {"subject: repo:acme/widget:pull_request\n" + tail, ":1:1: neither issuer nor issuer_pattern"},
		"two issuers":                      {"issuer_pattern: x\n" + subject("repo:acme/widget:pull_request"), ":1:17: issuer and issuer_pattern stand side by side"},
		"an issuer nobody configured":      {"issuer: https://evil.example.com\nsubject: repo:acme/widget:pull_request\n" + tail, ":1:9: no configured issuer is"},
		"no subject":                       {head + tail, ":1:1: neither subject nor subject_pattern"},
		"two audiences":                    {subject("repo:acme/widget:pull_request") + "audience: a\naudience_pattern: b\n", ":5:19: audience and audience_pattern"},
		"no permissions":                   {head + "subject: repo:acme/widget:pull_request\npermissions: {}\n", ":3:14: want the permissions"},
		"a subject of another make":        {subject("repository_owner:acme:ref:refs/heads/main"), ":2:10: want a subject as GitHub makes it"},
		"a text that looks like a pattern": {subject("repo:acme/widget:.*"), ":2:10: want a subject as GitHub makes it"},
		"a name that looks like a pattern": {subject("repo:acme/.*:ref:refs/heads/main"), "the repository in the subject is no name"},
		"a subject that never matched":     {subject("'repo:acme/widget:environment:prod (eu)'"), "never let anybody in"},
		"a loose alternation":              {pattern("repo:acme/widget:ref:refs/heads/main|repo:acme/widget:ref:refs/heads/dev"), ":2:18: before September 2026"},
		"a loose alternation of claims":    {claim("workflow: main|dev"), "before September 2026"},
		"half an anchor":                   {claim("workflow: '^main|dev$'"), "before September 2026"},
		"a pattern over the owner":         {pattern("repo:acme.*/widget:ref:refs/heads/main"), "the owner in the subject is a pattern"},
		"half of the ids":                  {subject("repo:acme@123456/widget:ref:refs/heads/main"), "both or none"},
		"a pattern over an id":             {pattern("repo:acme@123456/widget-.*:ref:refs/heads/main"), "over a name and its id"},
		"a group over parts":               {pattern("repo:acme/widget:(?:ref:refs/heads/main|environment:prod)"), "cannot be taken apart"},
		"a group over colons":              {pattern("repo:acme/(?:widget:ref:refs/heads/main)"), "cannot be taken apart"},
		"an anchor inside":                 {pattern("repo:acme/widget:ref:(?:^refs/heads/main)"), "cannot be taken apart"},
		"a flag":                           {pattern("(?i)repo:acme/widget:ref:refs/heads/main"), "flags, named groups"},
		"no pattern":                       {pattern("repo:acme/widget:ref:("), "no regular expression"},
		"sub as a claim":                   {claim("sub: x"), ":3:17: sub cannot be matched here"},
		"the actor":                        {claim("actor: octocat"), "actor cannot be matched here"},
		"two repositories at once":         {claim("repository: acme/gadget"), "at once, so that nobody is let in"},
		"another number":                   {claim(`repository_id: "7"`), "at once, so that nobody is let in"},
		"all of an installation":           {subject("repo:acme/widget:pull_request") + "repositories: []\n", "all of the installation"},
		"a policy of an organization":      {subject("repo:acme/widget:pull_request") + "repositories: [widget]\n", "policies of organizations alone"},
		"a number as an issuer":            {"issuer: 5\nsubject: repo:acme/widget:pull_request\n" + tail, ":1:9: want text"},
		"no policy":                        {"[]", "want a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			o := octoOptions(nil)
			if strings.Contains(c.says, "installation") {
				o.Scope = "acme"
			}
			made := policy.ImportOctoSTS("release.sts.yaml", []byte(c.policy), o)
			said := ""
			for _, f := range made.Findings {
				if f.Rule.Severity == policy.Error {
					said += fmt.Sprintf("%s:%d:%d: %s\n", f.File, f.Line, f.Column, f.Message)
				}
			}
			if made.Text != nil || !strings.Contains(said, c.says) {
				t.Errorf("said %s\n%s", said, made.Text)
			}
		})
	}
	o := octoOptions(func(o *policy.OctoSTS) { o.Scope = "acme" })
	if made, _ := imported(t, "release.sts.yaml", o); made.Text != nil {
		t.Error("an organization's policy that names no repository is taken over")
	}
}

func TestAnIdentityBecomesATasksName(t *testing.T) {
	_, data := imported(t, "release.sts.yaml", octoOptions(nil))
	for file, task := range map[string]string{
		"release.sts.yaml": "release", "Release_All.v2.sts.yaml": "release-all-v2", "folder/release.sts.yaml": "release",
		"release.yaml": "", "2fast.sts.yaml": "", ".sts.yaml": "",
	} {
		if made := policy.ImportOctoSTS(file, data, octoOptions(nil)); made.Task != task || (made.Text == nil) != (task == "") {
			t.Errorf("%s becomes %q", file, made.Task)
		}
		named := policy.ImportOctoSTS(file, data, octoOptions(func(o *policy.OctoSTS) { o.Task = "publish" }))
		if named.Task != "publish" || named.Text == nil {
			t.Errorf("%s with a name becomes %q", file, named.Task)
		}
	}
}

// Whatever patterns a policy is made of, its task lets in nobody whom it did not.
func TestNoPatternLetsInMoreThanItDid(t *testing.T) {
	piece := rapid.SampledFrom([]string{"refs/heads/", "refs/tags/", "main", "v", "1", ".", ".*", "[a-z]+", "(?:main|v1)", "(main)", "|", "^", "$", `\.`, "?", `\b`, ":", "[^/]*", "-evil"})
	name := rapid.SampledFrom([]string{"widget", ".*", "[^:]+", "gadget-.*", "(?:widget|gadget)", "widget@456789", `wid\w+`, "widget|"})
	kind := rapid.SampledFrom([]string{":ref:", ":environment:", ":", ":pull_request"})
	all := workloads()
	rapid.Check(t, func(t *rapid.T) {
		subject := "repo:acme" + rapid.SampledFrom([]string{"", "@123456"}).Draw(t, "id") + "/" + name.Draw(t, "name") + kind.Draw(t, "kind") +
			strings.Join(rapid.SliceOfN(piece, 0, 5).Draw(t, "about"), "")
		workflow := strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "workflow"), "")
		before := original{Issuer: githubIssuer, SubjectPattern: subject}
		text := fmt.Sprintf("issuer: %s\nsubject_pattern: '%s'\npermissions: {contents: read}\n", githubIssuer, subject)
		if workflow != "" {
			before.Claims = map[string]string{"ref": workflow}
			text += fmt.Sprintf("claim_pattern: {ref: '%s'}\n", workflow)
		}
		o := octoOptions(func(o *policy.OctoSTS) { o.PatternAnchored, o.RepositoryID = true, "" })
		made := policy.ImportOctoSTS("release.sts.yaml", []byte(text), o)
		if made.Text == nil || made.Open > 0 {
			return
		}
		set, err := loaded(made, o)
		if err != nil {
			return
		}
		for _, claims := range all {
			if _, err := set.Authorize(identity.Workload{Issuer: "github", Claims: claims}, policy.Asked{Task: "release"}); err == nil && !before.allowedBefore(claims) {
				t.Fatalf("%s lets in %v\n%s", text, claims, made.Text)
			}
		}
	})
}

// However a trust policy is written: no panic, and either a file that the exchange can
// read or an error with its place; and nobody is let in who has no number.
func FuzzImportOctoSTS(f *testing.F) {
	files, err := os.ReadDir(octoCorpus)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(octoCorpus + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "acme/widget", true)
		f.Add(data, "acme", false)
	}
	f.Fuzz(func(t *testing.T, data []byte, scope string, anchored bool) {
		o := octoOptions(func(o *policy.OctoSTS) { o.Scope, o.PatternAnchored = scope, anchored })
		made := policy.ImportOctoSTS("release.sts.yaml", data, o)
		errors := slices.ContainsFunc(made.Findings, func(f policy.Finding) bool { return f.Rule.Severity == policy.Error })
		if errors != (made.Text == nil) {
			t.Fatalf("text %q with %+v", made.Text, made.Findings)
		}
		if made.Text == nil {
			return
		}
		if _, err := yamlfile.Parse("release.yaml", made.Text); err != nil {
			t.Fatalf("%v\n%s", err, made.Text)
		}
		set, err := loaded(made, o)
		if made.Open > 0 && err == nil {
			t.Fatalf("taken with %d open lines:\n%s", made.Open, made.Text)
		}
		if err != nil {
			return
		}
		stranger := workload(place{"acme/widget", "1", "2"}, "", "refs/heads/main", "push")
		if _, err := set.Authorize(identity.Workload{Issuer: "github", Claims: stranger}, policy.Asked{Task: "release"}); err == nil {
			t.Errorf("lets in whoever took the name over:\n%s", made.Text)
		}
	})
}
