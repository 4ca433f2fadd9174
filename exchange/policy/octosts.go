package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// OctoSTS is what a task file needs to know and a trust policy of octo-sts does not
// say. Everything but Issuers may be left out; what is missed then becomes a line that
// is refused until somebody fills it in.
type OctoSTS struct {
	Issuers []identity.Issuer // as configured
	Scope   string            // owner/repository that the policy stands in, or owner where it is an organization's
	Task    string            // the new task's name; the policy's own if empty
	// OwnerID and RepositoryID are the numbers of the owner and the repository that
	// the policy's subject names.
	OwnerID, RepositoryID string
	Events                []string // the values of event_name that may use the task
	// PatternAnchored: the service that the policy was written for anchored patterns
	// as a whole. octo-sts did not before September 2026.
	PatternAnchored bool
}

// Imported is a task file made of a trust policy.
type Imported struct {
	Task     string
	Text     []byte // nil where Findings holds an error
	Open     int    // lines that are refused until somebody fills them in
	Findings []Finding
}

// The rules of an import.
var (
	octoRefused = Rule{"octo-sts-refused", Error, "cannot be taken over", "What the policy says has no exact counterpart, and a task may never let in more than the policy did.", "Write the task by hand, or the policy more narrowly."}
	octoForm    = Rule{Form, Error, "not written as a trust policy is", "A key or a value that nothing reads may have been meant to restrict something.", "Write it as octo-sts has it."}
	octoDiffers = Rule{"octo-sts-differs", Warning, "taken over in another form", "Both let in the same workloads, but they do not read the same.", "Read both side by side."}
	octoDecide  = Rule{"octo-sts-decide", Warning, "yours to decide", "A trust policy does not say it, and a guess could let strangers in.", "Fill the line in; check refuses the file until then."}
)

// octoPolicy is a trust policy as octo-sts reads it, with the same strictness.
type octoPolicy struct {
	Issuer          yamlfile.Node `yaml:"issuer"`
	IssuerPattern   yamlfile.Node `yaml:"issuer_pattern"`
	Subject         yamlfile.Node `yaml:"subject"`
	SubjectPattern  yamlfile.Node `yaml:"subject_pattern"`
	Audience        yamlfile.Node `yaml:"audience"`
	AudiencePattern yamlfile.Node `yaml:"audience_pattern"`
	ClaimPattern    yamlfile.Node `yaml:"claim_pattern"`
	Permissions     yamlfile.Node `yaml:"permissions,required"`
	Repositories    yamlfile.Node `yaml:"repositories"`
}

// octoImport is one import under way.
type octoImport struct {
	OctoSTS
	policy   octoPolicy
	root     yamlfile.Node
	identity string
	findings []Finding
	failed   bool
}

// ImportOctoSTS makes a task file of a trust policy of octo-sts. file is the policy's
// name, <identity>.sts.yaml. Whatever the task lets in, the policy let in: what cannot
// be said exactly is refused, with its place.
func ImportOctoSTS(file string, data []byte, o OctoSTS) Imported {
	i := &octoImport{OctoSTS: o}
	root, err := yamlfile.Parse(file, data)
	if err == nil {
		i.root = root
		err = root.Decode(&i.policy)
	}
	if err != nil {
		for _, f := range yamlfile.Faults(err) {
			i.add(octoForm, f)
		}
		return Imported{Findings: i.findings}
	}
	name := i.name(path.Base(file))
	entries := i.entries()
	i.audience()
	gives := i.gives(entries)
	if i.failed {
		return Imported{Task: name, Findings: i.findings}
	}
	w := &octoWriter{octoImport: i}
	w.file(name, entries, gives)
	return Imported{Task: name, Text: []byte(w.text.String()), Open: w.open, Findings: i.findings}
}

func (i *octoImport) add(rule Rule, f *yamlfile.Error) {
	i.failed = i.failed || rule.Severity == Error
	i.findings = append(i.findings, Finding{Rule: rule, File: f.File, Line: f.Line, Column: f.Column, Message: f.Message, Text: f.Text})
}

func (i *octoImport) find(rule Rule, n yamlfile.Node, format string, args ...any) {
	i.add(rule, n.Errorf(format, args...))
}

func (i *octoImport) refuse(n yamlfile.Node, format string, args ...any) {
	i.find(octoRefused, n, format, args...)
}

// text reads a text that must not be empty or hide anything. "" is what was refused.
func (i *octoImport) text(n yamlfile.Node) string {
	var text string
	if err := n.Decode(&text); err != nil {
		for _, f := range yamlfile.Faults(err) {
			i.add(octoForm, f)
		}
		return ""
	}
	if text == "" || !printable(text) {
		i.find(octoForm, n, "want one line of visible characters")
		return ""
	}
	return text
}

// one returns the one of two keys that is given, and whether it is the second.
func (i *octoImport) one(exact, pattern yamlfile.Node, name string) (n yamlfile.Node, isPattern, ok bool) {
	switch {
	case exact.Exists() && pattern.Exists():
		i.find(octoForm, pattern, "%s and %s_pattern stand side by side; one of them counts", name, name)
	case !exact.Exists() && !pattern.Exists():
		i.find(octoForm, i.root, "neither %s nor %s_pattern is given", name, name)
	case pattern.Exists():
		return pattern, true, true
	default:
		return exact, false, true
	}
	return yamlfile.Node{}, false, false
}

// name is the task's: the identity, in the letters that a task may have.
func (i *octoImport) name(file string) string {
	identity, isPolicy := strings.CutSuffix(file, ".sts.yaml")
	if isPolicy {
		i.identity = identity
	}
	name := i.Task
	if name == "" && isPolicy {
		name = strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(identity))
	}
	switch {
	case !taskName.MatchString(name):
		i.refuse(i.root, "%s makes no name for a task (1 to 63 of a-z, 0-9 and -, beginning with a letter); give one with --task", yamlfile.Quote(file))
		return ""
	case isPolicy && name != identity:
		i.find(octoDiffers, i.root, "the identity %s becomes the task %s; clients go on asking for the identity", yamlfile.Quote(identity), name)
	}
	return name
}

// audience is not the task's business: the door that a token comes to has one.
func (i *octoImport) audience() {
	n, named := i.policy.Audience, "audience"
	if i.policy.AudiencePattern.Exists() {
		if n.Exists() {
			i.find(octoForm, i.policy.AudiencePattern, "audience and audience_pattern stand side by side; one of them counts")
		}
		n, named = i.policy.AudiencePattern, "audience_pattern"
	}
	if !n.Exists() {
		return
	}
	if text := i.text(n); text != "" {
		i.find(octoDiffers, n, "%s is not the task's: every door here has one audience, and octo_sts.audience must be what these clients ask for (%s)", named, yamlfile.Quote(text))
	}
}

// issuers are the configured issuers that the policy means. A pattern means those of
// them that it matches, each by its exact URL.
func (i *octoImport) issuers() []string {
	n, isPattern, ok := i.one(i.policy.Issuer, i.policy.IssuerPattern, "issuer")
	if !ok {
		return nil
	}
	text := i.text(n)
	if text == "" {
		return nil
	}
	matches := func(url string) bool { return url == text }
	if isPattern {
		p, ok := i.pattern(n, text)
		if !ok {
			return nil
		}
		matches = p.matches
	}
	var names []string
	for _, configured := range i.Issuers {
		if !matches(configured.URL) {
			continue
		}
		if configured.Kind != "github" {
			i.refuse(n, "the issuer %s is of kind %s, and subjects are taken over of GitHub's alone", configured.Name, configured.Kind)
		}
		names = append(names, configured.Name)
	}
	if len(names) == 0 {
		i.refuse(n, "no configured issuer is %s; configure it, and name the configuration with --config", yamlfile.Quote(text))
	}
	if isPattern && len(names) > 0 {
		i.find(octoDiffers, n, "of the configured issuers the pattern means %s", strings.Join(names, ", "))
	}
	return names
}

// octoGives is what the task's credential reaches.
type octoGives struct {
	owner        string
	repositories []string
	id           string // of the one repository, where it is known
	permissions  []octoPermission
}

type octoPermission struct{ name, level string }

// gives reads what the policy's tokens reach: its own repository, or the ones that an
// organization's policy names.
func (i *octoImport) gives(entries []octoEntry) octoGives {
	owner, repository, _ := strings.Cut(i.Scope, "/")
	organization := repository == "" || repository == ".github"
	named := i.policy.Repositories
	g := octoGives{owner: owner, permissions: i.permissions()}
	switch {
	case named.Exists() && !organization:
		i.find(octoForm, named, "repositories stand in policies of organizations alone, and the scope is %s", yamlfile.Quote(i.Scope))
	case named.Exists():
		for _, item := range named.Items() {
			if name := i.text(item); name != "" {
				g.repositories = append(g.repositories, name)
			}
		}
		if len(named.Items()) == 0 {
			i.refuse(named, "no repository is named, and octo-sts then gave all of the installation; name those that the task needs")
		}
	case i.Scope != "" && organization:
		i.refuse(i.root, "an organization's policy without repositories gave all of the installation; name those that the task needs, as repositories: [widget]")
	case i.Scope != "":
		g.repositories = []string{repository}
	}
	if i.Scope == "" {
		i.find(octoDecide, i.root, "where the policy stands is not said; give --scope acme/widget, or --scope acme for an organization's")
	}
	if len(g.repositories) == 1 && len(entries) > 0 {
		about := entries[0]
		if ids := about.values("repository_id"); len(ids) == 1 && slices.Equal(about.values("repository"), []string{fmt.Sprintf("%s/%s", owner, g.repositories[0])}) {
			g.id = ids[0]
		}
	}
	return g
}

func (i *octoImport) permissions() (all []octoPermission) {
	n := i.policy.Permissions
	if len(n.Keys()) == 0 {
		i.find(octoForm, n, "want the permissions, as {contents: read}")
	}
	for _, name := range n.Keys() {
		all = append(all, octoPermission{name, i.text(n.Get(name))})
	}
	return all
}
