package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-jose/go-jose/v4"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const issuersPage = "../../docs/issuers.md"

// withIssuers is a configuration with the issuers of one block.
func withIssuers(t *testing.T, block string) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "cluster-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cluster-ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	write(t, dir, "cluster-keys.json", keys)
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\ntasks: tasks\nbackends: {github: {client_id: Iv1.x, private_key: none.pem}}\n"+block))
	return filepath.Join(dir, "stepkey.yaml")
}

// issuersOfPage are the issuers of the page's configurations, by kind; of those of one
// kind the last.
func issuersOfPage(t *testing.T) map[string]identity.Issuer {
	t.Helper()
	all := map[string]identity.Issuer{}
	for _, b := range blocks(t, issuersPage) {
		if b.kind != "yaml" || !strings.HasPrefix(b.text, "# stepkey.yaml\n") {
			continue
		}
		c, err := readConfig(withIssuers(t, b.text))
		if err != nil {
			t.Fatalf("%v\n%s", err, b.text)
		}
		issuers, err := c.issuers()
		if err != nil {
			t.Fatalf("%v\n%s", err, b.text)
		}
		if _, err := identity.New(c.URL, issuers, identity.Options{}); err != nil || len(issuers) != 1 {
			t.Fatalf("%v\n%s", err, b.text)
		}
		all[issuers[0].Kind] = issuers[0]
	}
	return all
}

// Every block of the page is one that loads: configurations, task files, and what the
// other side reads, which is YAML at least.
func TestEveryBlockOfTheIssuersPageIsGood(t *testing.T) {
	issuers := issuersOfPage(t)
	var against policy.Check
	for _, i := range issuers {
		against.Issuers = append(against.Issuers, i)
	}
	known, err := anything()
	if err != nil {
		t.Fatal(err)
	}
	against.Backends = known.Backends
	tasks := 0
	for _, b := range blocks(t, issuersPage) {
		first, _, _ := strings.Cut(b.text, "\n")
		if b.kind != "yaml" || first == "# stepkey.yaml" {
			continue
		}
		name, isTask := strings.CutPrefix(first, "# tasks/")
		if !isTask {
			if _, err := yamlfile.Parse(first, []byte(b.text)); err != nil {
				t.Error(err)
			}
			continue
		}
		tasks++
		set, found, err := policy.Lint(fstest.MapFS{name: {Data: []byte(b.text)}}, against)
		if err != nil || set == nil || len(found) > 0 {
			t.Errorf("%s: %v, %+v", name, err, found)
		}
	}
	if tasks != len(issuers) || tasks != 7 {
		t.Errorf("%d task files for the issuers of %d kinds", tasks, len(issuers))
	}
}

// pageWorkloads says which file of testdata/claims the page's task of a kind lets in, and
// with which claims in place of the file's.
var pageWorkloads = map[string]struct {
	file   string
	change map[string]any
}{
	"gitlab": {"push", map[string]any{"ref": "v1.2.3", "ref_type": "tag"}}, "buildkite": {"with-ids", nil}, "circleci": {"push", nil}, "forgejo": {"push", nil},
	"kubernetes": {"pod", nil}, "spiffe": {"spire", nil}, "oidc": {"semaphore", nil},
}

// Each task of the page gives to the job that it is written for, and to no other that the
// test data of its kind has.
func TestTheTasksOfTheIssuersPageGiveToTheirJobsAlone(t *testing.T) {
	issuers := issuersOfPage(t)
	for kind, want := range pageWorkloads {
		t.Run(kind, func(t *testing.T) {
			set := pageTaskOf(t, issuers[kind])
			task := set.Tasks()[0].Name
			files, err := filepath.Glob("../../testdata/claims/" + kind + "/*.json")
			if err != nil || len(files) == 0 {
				t.Fatal("no claims", err)
			}
			given := 0
			for _, file := range files {
				mine := strings.TrimSuffix(filepath.Base(file), ".json") == want.file
				w := pageWorkload(t, issuers[kind], file, mine, want.change)
				_, err := set.Authorize(w, policy.Asked{Task: task})
				if mine {
					given++
					if err != nil {
						t.Errorf("its own job: %v", err)
					}
				} else if err == nil && !slices.Contains(alike, kind+"/"+strings.TrimSuffix(filepath.Base(file), ".json")) {
					t.Errorf("%s is let in", file)
				}
			}
			if given != 1 {
				t.Errorf("no file %s", want.file)
			}
		})
	}
}

// alike are files of the same workload in another form of token.
var alike = []string{"kubernetes/pod-before-jti", "circleci/without-job-id"}

func pageTaskOf(t *testing.T, i identity.Issuer) *policy.Set {
	t.Helper()
	against, err := anything()
	if err != nil {
		t.Fatal(err)
	}
	against.Issuers = []identity.Issuer{i}
	for _, b := range blocks(t, issuersPage) {
		name, ours := strings.CutPrefix(b.text, "# tasks/")
		if !ours || !strings.Contains(b.text, "issuer: "+i.Name+"\n") {
			continue
		}
		name, _, _ = strings.Cut(name, "\n")
		set, err := policy.Load(fstest.MapFS{name: {Data: []byte(b.text)}}, against)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	t.Fatalf("the page has no task for %s", i.Name)
	return nil
}

func pageWorkload(t *testing.T, i identity.Issuer, file string, mine bool, change map[string]any) identity.Workload {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if mine && change != nil {
		var claims map[string]any
		if err := json.Unmarshal(text, &claims); err != nil {
			t.Fatal(err)
		}
		for name, value := range change {
			claims[name] = value
		}
		if text, err = json.Marshal(claims); err != nil {
			t.Fatal(err)
		}
	}
	claims, err := identity.ReadClaims(string(text))
	if err != nil {
		t.Fatal(err)
	}
	w, err := identity.Unverified(i, claims)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The tables of the page name every kind and every key of an issuer, and no other.
func TestTheIssuersPageNamesEveryKindAndEveryKey(t *testing.T) {
	page, err := os.ReadFile(issuersPage)
	if err != nil {
		t.Fatal(err)
	}
	err = identity.Issuer{Name: "it", Kind: "none", URL: "https://issuer.example"}.Check()
	_, known, found := strings.Cut(err.Error(), "known: ")
	if !found {
		t.Fatal(err)
	}
	for kind := range strings.SplitSeq(strings.TrimSpace(known), ", ") {
		if !regexp.MustCompile("(?m)^\\| \\[?`" + kind + "`").Match(page) {
			t.Errorf("no row for kind %s", kind)
		}
	}
	for _, key := range yamlfile.KeysOf[issuerConfig]() {
		if key.Name != "kind" && key.Name != "url" && !strings.Contains(string(page), "| `"+key.Name+"` |") {
			t.Errorf("no row for key %s", key.Name)
		}
	}
	for _, key := range yamlfile.KeysOf[identity.JobClaims]() {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + key.Name + "`").Match(page) {
			t.Errorf("no row for job.%s", key.Name)
		}
	}
}
