package s3_test

import (
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/s3.md")

// opened is a configuration of the page, which is opened as it stands.
func opened(t *testing.T, text string) *s3.Backend {
	t.Helper()
	root, err := yamlfile.Parse("stepkey.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var c s3.Config
	if err := root.Get("backends", "s3").Decode(&c); err != nil {
		t.Fatal(err)
	}
	c.SecretKeyFile = t.TempDir() + "/" + c.SecretKeyFile
	if err := os.WriteFile(c.SecretKeyFile, []byte("a-secret-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := c.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheConfigurationsAndTheTaskOfThePageAreTaken(t *testing.T) {
	yaml := page.Blocks(t, "yaml")
	if len(yaml) != 4 {
		t.Fatalf("the page has %d blocks of YAML", len(yaml))
	}
	for kind, b := range map[string]*s3.Backend{"MinIO": opened(t, yaml[0]), "AWS": opened(t, yaml[1]), "another": opened(t, yaml[2])} {
		set, err := policy.Load(fstest.MapFS{"back-up-widget.yaml": {Data: []byte(yaml[3])}}, policy.Check{
			Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
			Backends: map[string]policy.Scoper{"s3": b},
		})
		if err != nil {
			t.Fatalf("on %s: %v", kind, err)
		}
		for _, f := range set.Findings() {
			t.Errorf("on %s: %s:%d: %s: %s", kind, f.File, f.Line, f.Rule.ID, f.Message)
		}
	}
}

// The policy that the page shows is the one that is sent.
func TestThePageShowsThePolicy(t *testing.T) {
	server := newSTS(t)
	o := order(t, server.backend, "{bucket: backups, prefix: widget/nightly/, actions: [list, write]}")
	if _, err := server.backend.Issue(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(strings.Fields(page.Block(t, "json", `{"Statement"`)), "")
	if sent := strings.Join(strings.Fields(server.last.Get("Policy")), ""); sent != shown {
		t.Errorf("sent is\n%s\nand the page shows\n%s", sent, shown)
	}
}

func TestThePageNamesEveryKeyOfTheConfigurationAndOfABlock(t *testing.T) {
	page.TellsOf(t, yamlfile.KeysOf[s3.Config](), "bucket", "prefix", "actions")
}

// How the page's policies begin. That of MinIO's account is the one of AWS's role, too.
const (
	begins = `{"Version": "2012-10-17", "Statement": [
  {"Effect": `
	forMinIO = begins + `"Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::backups"`
	forUser  = begins + `"Allow", "Action": ["sts:`
	forTrust = begins + `"Allow", "Principal"`
	forDeny  = begins + `"Deny"`
)

// policyText is one as AWS reads it.
type policyText struct {
	Version   string
	Statement []struct {
		Effect    string
		Principal map[string]string
		Action    []string
		Resource  []string
		Condition map[string]map[string][]string
	}
}

func policyOf(t *testing.T, text string) policyText {
	t.Helper()
	var p policyText
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return p
}

// actions are all that a policy speaks of, sorted.
func (p policyText) actions() []string {
	var all []string
	for _, s := range p.Statement {
		all = append(all, s.Action...)
	}
	slices.Sort(all)
	return all
}

// The page's policies allow what is asked for, and nothing that is not.
func TestThePoliciesOfThePageAreOfWhatIsAsked(t *testing.T) {
	server := newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole, SourceIdentity: true})
	server.trustsSource = true
	o := order(t, server.backend, "{bucket: backups, prefix: widget/, actions: [read, write, list, delete]}")
	if _, err := server.backend.Issue(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	asked := []string{"sts:" + server.last.Get("Action")}
	if server.last.Has("SourceIdentity") {
		asked = append(asked, "sts:SetSourceIdentity")
	}
	user, trust := policyOf(t, page.Block(t, "json", forUser)), policyOf(t, page.Block(t, "json", forTrust))
	for of, p := range map[string]policyText{"user": user, "trust": trust} {
		if !slices.Equal(p.actions(), asked) || p.Version != "2012-10-17" {
			t.Errorf("the %s allows %v, and asked for is %v", of, p.actions(), asked)
		}
	}
	if !slices.Equal(user.Statement[0].Resource, []string{server.last.Get("RoleArn")}) {
		t.Errorf("the user may take %v", user.Statement[0].Resource)
	}
	role, session := policyOf(t, page.Block(t, "json", forMinIO)), policyOf(t, server.last.Get("Policy"))
	if !slices.Equal(role.actions(), session.actions()) {
		t.Errorf("the role may %v, and sessions %v", role.actions(), session.actions())
	}
}

// The page's deny meets one lease by what AWS is told of it: a session's user id is that of
// its role, a colon and the session's name.
func TestTheDenyOfThePageMeetsOneLease(t *testing.T) {
	server := newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole, SourceIdentity: true})
	server.trustsSource = true
	issue := func(lease backend.LeaseID) map[string]string {
		o := order(t, server.backend, task)
		if lease != "" {
			o.Lease = lease
		}
		if _, err := server.backend.Issue(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return map[string]string{"aws:userid": "AROAEXAMPLE:" + server.last.Get("RoleSessionName"), "aws:SourceIdentity": server.last.Get("SourceIdentity")}
	}
	denied := policyOf(t, page.Block(t, "json", forDeny))
	if len(denied.Statement) != 2 {
		t.Fatalf("it has %d statements", len(denied.Statement))
	}
	lease := denied.Statement[1].Condition["StringEquals"]["aws:SourceIdentity"][0]
	one, other := issue(backend.LeaseID(lease)), issue("")
	for n, s := range denied.Statement {
		for operator, keys := range s.Condition {
			for key, want := range keys {
				if !meets(operator, want[0], one[key]) || meets(operator, want[0], other[key]) {
					t.Errorf("statement %d: %s %s %s does not meet that lease alone: %v, %v", n, key, operator, want[0], one, other)
				}
			}
		}
	}
}

func meets(operator, pattern, value string) bool {
	if operator == "StringLike" {
		ok, err := path.Match(pattern, value) // alike where a value has no slash
		return ok && err == nil
	}
	return operator == "StringEquals" && pattern == value
}
