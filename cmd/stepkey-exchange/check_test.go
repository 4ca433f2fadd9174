package main

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// The corpus of exchange/policy is read there with a backend that is made for it. The
// real ones take the good files, too: they are there to be copied.
func TestTheRealBackendsTakeTheGoodTaskFiles(t *testing.T) {
	const folder = "../../testdata/tasks/good"
	against, err := anything()
	if err != nil {
		t.Fatal(err)
	}
	against.Issuers = append(against.Issuers, identity.Issuer{Name: "ghes", Kind: "github"},
		identity.Issuer{Name: "gitlab", Kind: "gitlab"}, identity.Issuer{Name: "buildkite", Kind: "buildkite"},
		identity.Issuer{Name: "circleci", Kind: "circleci"}, identity.Issuer{Name: "forgejo", Kind: "forgejo"},
		identity.Issuer{Name: "kubernetes", Kind: "kubernetes"}, identity.Issuer{Name: "spiffe", Kind: "spiffe", TrustDomain: "example.org"},
		identity.Issuer{Name: "semaphore", Kind: "oidc", Job: &identity.JobClaims{Key: []string{"prj_id", "job_id"}, Pin: []string{"prj_id"}}})
	listed, err := os.ReadDir(folder)
	if err != nil || len(listed) < 100 {
		t.Fatalf("%d files, %v", len(listed), err)
	}
	for _, file := range listed {
		if file.Name() == "read-packages.yaml" {
			continue // names no repository: the real one refuses to give all
		}
		data, err := os.ReadFile(folder + "/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Load(fstest.MapFS{file.Name(): {Data: data}}, against); err != nil {
			t.Error(err)
		}
	}
}
