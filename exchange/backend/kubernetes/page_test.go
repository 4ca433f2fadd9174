package kubernetes_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// The first two blocks of YAML are what every test\'s cluster is set up with.
const page = backendtest.Page("../../../docs/backends/kubernetes.md")

// The page's configuration, opened on the test's cluster, fills the orders of its tasks.
func TestTheTasksOfThePageAreTakenAndTheirCredentialsWork(t *testing.T) {
	s := stage(t)
	texts, err := page.Read("yaml")
	if err != nil || len(texts) != 5 {
		t.Fatalf("the page has %d blocks (%v)", len(texts), err)
	}
	root, err := yamlfile.Parse("stepkey.yaml", []byte(texts[2]))
	if err != nil {
		t.Fatal(err)
	}
	var c kubernetes.Config
	if err := root.Get("backends", "kubernetes").Decode(&c); err != nil {
		t.Fatal(err)
	}
	c.Server, c.CAFile, c.TokenFile = s.URL, s.CA, s.tokenFile // where a pod would find them
	if s.Backend, err = c.Open(time.Now); err != nil {
		t.Fatal(err)
	}
	folder := fstest.MapFS{}
	for _, text := range texts[3:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "# tasks/"), "\n")
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := policy.Load(folder, policy.Check{
		Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
		Backends: map[string]policy.Scoper{"kubernetes": s.Backend},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set.Findings() {
		t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.Rule.ID, f.Message)
	}
	for file, path := range map[string]string{
		"roll-out-web.yaml": "/api/v1/namespaces/web/pods", "look-at-web.yaml": configmaps,
	} {
		issued := s.fill(t, file, folder[file].Data)
		if got := s.get(issued, path); got != 200 {
			t.Errorf("%s: GET %s is answered %d", file, path, got)
		}
		if got := issued.Values["server"].Reveal(); got != "https://203.0.113.7:6443" {
			t.Errorf("steps are told %s", got)
		}
	}
}

func (s *scene) fill(t *testing.T, file string, text []byte) backend.Issued {
	t.Helper()
	root, err := yamlfile.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	scope, err := s.Scope(root.Get("credential", "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	o := s.order(every["role"])
	o.Scope = scope
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Revoke(context.WithoutCancel(s.Context()), o.Lease, issued.Handle); err != nil {
			t.Error(err)
		}
	})
	return issued
}

func TestThePageNamesEveryKeyAndEveryVariable(t *testing.T) {
	page.TellsOf(t, slices.Concat(yamlfile.KeysOf[kubernetes.Config](), yamlfile.KeysOf[kubernetes.Namespace]()),
		"namespace", "rules", "role", "cluster_role", "service_account", "api_group", "resources", "names", "verbs")
	text, err := os.ReadFile(string(page))
	if err != nil {
		t.Fatal(err)
	}
	s := stage(t)
	_, issued := s.issue(every["role"])
	commands, err := page.Read("sh")
	if err != nil || len(commands) != 1 {
		t.Fatalf("the page has %d commands (%v)", len(commands), err)
	}
	uses := regexp.MustCompile(`^stepkey exec --task (\S+) --file KUBECONFIG=(\S+) -- kubectl `).FindStringSubmatch(commands[0])
	if uses == nil || !strings.Contains(string(text), "task: "+uses[1]+"\n") || issued.Values[uses[2]].Empty() {
		t.Errorf("the page's command uses a task or a value that is not there: %q", uses)
	}
	for name := range maps.Keys(issued.Env) {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("the page does not name the variable %s", name)
		}
	}
	for name := range maps.Keys(issued.Values) {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("the page does not name the value %s", name)
		}
	}
}
