package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

type explainCommand struct {
	Dir     string            `arg:"" type:"existingdir" help:"The folder of task files."`
	Task    string            `required:"" help:"The task that is asked for."`
	Claims  string            `required:"" placeholder:"FILE" help:"A file that holds claims as a JSON object, or an ID token; - reads standard input. A token is read and not verified. It is never taken as an argument, which other users of the machine could see."`
	Issuer  string            `help:"The issuer, by its configured name. Without it: the one whose URL is iss, or the only one."`
	Input   map[string]string `mapsep:"none" help:"An input of the task, as NAME=VALUE; repeatable."`
	TTL     time.Duration     `name:"ttl" help:"The lifetime that is asked for, where it is shorter than the task's."`
	Details string            `help:"What of the credential is asked for, as JSON: {\"github\": {…}}."`
	Config  string            `type:"existingfile" help:"The configuration file, for the issuers and backends. Without it: an issuer named github, and every backend."`
	Output  string            `enum:"text,json" default:"text" help:"text for people, or json (${default})."`
}

// usage is an error in what was asked of a command, which ends with 2.
type usage struct{ error }

// Run prints the decision on claims that nobody vouches for.
func (k explainCommand) Run(_ context.Context, around surroundings) error {
	text, err := k.read()
	if err != nil {
		return usage{err}
	}
	against, err := checkCommand{Config: k.Config}.against()
	if err != nil {
		return usage{err}
	}
	set, err := policy.Load(os.DirFS(k.Dir), against)
	if err != nil {
		return usage{fmt.Errorf("the task files are refused, and stepkey-exchange check says more: %w", err)}
	}
	asked, err := k.asked()
	if err != nil {
		return usage{err}
	}
	told, err := k.decide(set, against.Issuers, asked, text)
	if err != nil {
		return err
	}
	if err := told.print(k.Output, around.out); err != nil {
		return fmt.Errorf("printing the explanation: %w", err)
	}
	if told.Reason != "" {
		return fmt.Errorf("task %s is denied", yamlfile.Quote(k.Task))
	}
	return nil
}

// tokenLike is what a compact JWS begins with: the base64url of {".
var tokenLike = regexp.MustCompile(`\A\s*ey[A-Za-z0-9_-]{8,}\.`)

// mostClaims is far above what a token may have.
const mostClaims = 1 << 20

func (k explainCommand) read() (string, error) {
	if tokenLike.MatchString(k.Claims) {
		return "", errors.New("--claims is a token itself, which other users of this machine can now see; put it in a file, or pipe it in with --claims -")
	}
	from, name := io.Reader(os.Stdin), "standard input"
	if k.Claims != "-" {
		file, err := os.Open(k.Claims)
		if err != nil {
			return "", fmt.Errorf("reading the claims: %w", err)
		}
		defer func() { _ = file.Close() }() // only read from
		from, name = file, filepath.Base(k.Claims)
	}
	text, err := io.ReadAll(io.LimitReader(from, mostClaims))
	if err != nil {
		return "", fmt.Errorf("reading the claims from %s: %w", name, err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf(`%s is empty; it is to hold claims, as {"repository_id": "456789", "event_name": "push"}, or an ID token`, name)
	}
	return string(text), nil
}

func (k explainCommand) asked() (policy.Asked, error) {
	asked := policy.Asked{Task: k.Task, TTL: k.TTL, Inputs: k.Input}
	if k.Details == "" {
		return asked, nil
	}
	var err error
	if asked.Narrow, err = yamlfile.ParseJSON("--details", []byte(k.Details)); err == nil && !asked.Narrow.IsMapping() {
		err = errors.New(`--details is a JSON object, as {"github": {"permissions": {"contents": "read"}}}`)
	}
	return asked, err
}

// decide reads the claims as the verifier would. What it refuses is refused before any
// task is looked at, which is an answer, too.
func (k explainCommand) decide(set *policy.Set, issuers []identity.Issuer, asked policy.Asked, text string) (explained, error) {
	claims, err := identity.ReadClaims(text)
	if err != nil {
		return explained{}, usage{fmt.Errorf("reading the claims: %w", err)}
	}
	issuer, err := k.issuer(issuers, claims)
	if err != nil {
		return explained{}, usage{err}
	}
	filled := fillIn(issuer.Kind, claims)
	w, err := identity.Unverified(issuer, claims)
	if err != nil { // so the exchange would not believe it: that is the answer, and no fault of ours
		return explained{Version: 1, Task: k.Task, Issuer: issuer.Name, Reason: err.Error(), FilledIn: filled, Entries: []told{}, Checks: []told{}}, nil //nolint:nilerr // see above
	}
	x := explainedOf(set.Explain(w, asked), w)
	x.FilledIn = filled
	return x, nil
}

// fillIn adds claims that name a run where none of them is there: no task speaks of them, so
// that whoever writes claims by hand leaves them out. It says which.
func fillIn(kind string, claims identity.Claims) (names []string) {
	run := policy.SomeRun(kind)
	for name := range run {
		if _, there := claims[name]; there {
			return nil
		}
	}
	for name, example := range run {
		claims[name] = example
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// issuer is the one named; else the one that the claims are from; else the only one, for
// claims written by hand.
func (k explainCommand) issuer(issuers []identity.Issuer, claims identity.Claims) (identity.Issuer, error) {
	iss, hasIss := claims.Text("iss")
	var names []string
	for _, i := range issuers {
		if k.Issuer == i.Name || k.Issuer == "" && hasIss && iss == i.URL {
			return i, nil
		}
		names = append(names, i.Name)
	}
	slices.Sort(names)
	switch {
	case k.Issuer != "":
		return identity.Issuer{}, fmt.Errorf("no issuer %s is configured; there is: %s", yamlfile.Quote(k.Issuer), strings.Join(names, ", "))
	case len(issuers) == 1 && cmp.Or(issuers[0].URL, iss) == iss, len(issuers) == 1 && !hasIss:
		return issuers[0], nil
	case hasIss:
		return identity.Issuer{}, fmt.Errorf("no issuer with the URL %s is configured; name the one that is meant as --issuer: %s", yamlfile.Quote(iss), strings.Join(names, ", "))
	}
	return identity.Issuer{}, fmt.Errorf("the claims have no iss; name the issuer as --issuer: %s", strings.Join(names, ", "))
}

// explained is the shape of --output json. Keys are added and never change their meaning.
type explained struct {
	Version    int      `json:"version"` // of this shape: 1
	Task       string   `json:"task"`
	Granted    bool     `json:"granted"`
	Verified   bool     `json:"verified"` // always false: nobody vouches for these claims
	Issuer     string   `json:"issuer"`
	Job        string   `json:"job,omitempty"`
	Reason     string   `json:"reason,omitempty"` // why it is denied
	Rule       string   `json:"rule,omitempty"`   // the entry that lets it in
	Gives      string   `json:"gives,omitempty"`
	TTLSeconds int      `json:"ttl_seconds,omitempty"`
	FilledIn   []string `json:"filled_in,omitempty"` // claims that name a run, of which none was there
	Entries    []told   `json:"entries"`
	Checks     []told   `json:"checks"`

	tree string
}

type told struct {
	Verdict string `json:"verdict"` // holds, fails or not asked
	What    string `json:"what"`
	Place   string `json:"place,omitempty"`
	Words   string `json:"words,omitempty"`
	Rules   []told `json:"rules,omitempty"`
}

func explainedOf(e policy.Explanation, w identity.Workload) explained {
	x := explained{
		Version: 1, Task: e.Task, Granted: e.Granted(), Issuer: w.Issuer, Job: w.Job.Name, Reason: e.Reason(), Rule: e.Grant.Rule,
		TTLSeconds: int(e.Grant.TTL.Seconds()), Entries: toldOf(e.Entries), Checks: toldOf(e.Checks), tree: e.Tree(),
	}
	if e.Grant.Scope != nil {
		x.Gives = e.Grant.Scope.String()
	}
	return x
}

func toldOf(all []policy.Told) []told {
	out := make([]told, 0, len(all))
	for _, t := range all {
		out = append(out, told{Verdict: string(t.Verdict), What: t.What, Place: t.Place, Words: t.Words, Rules: toldOf(t.Rules)})
	}
	return out
}

func (x explained) print(as string, out io.Writer) error {
	if as == "json" {
		return printIndented(out, x)
	}
	from := "issuer " + x.Issuer
	if x.Job != "" {
		from = x.Job + ", " + from
	}
	if x.tree == "" {
		x.tree = "✗ " + x.Reason + "\n"
	}
	if len(x.FilledIn) > 0 {
		from += "; filled in: " + strings.Join(x.FilledIn, ", ")
	}
	_, err := fmt.Fprintf(out, "not verified: nobody vouches for these claims (%s)\n%s", from, x.tree)
	return err
}
