package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// fakeGitHub reads blocks the way a backend does, with two levels of permission.
type fakeGitHub struct{}

type fakeScope struct {
	Owner        string            `yaml:"owner"`
	Repositories []string          `yaml:"repositories"`
	IDs          []int64           `yaml:"repository_ids"`
	Permissions  map[string]string `yaml:"permissions,required"`
}

func (fakeGitHub) Scope(b backend.Block) (backend.Scope, error) {
	var s fakeScope
	if err := b.Decode(&s); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Permissions)) {
		if level := s.Permissions[name]; level != "read" && level != "write" {
			return nil, b.Get("permissions", name).Errorf("%s takes read or write", name)
		}
	}
	return s, nil
}

// Lifetimes are those of GitHub's tokens.
func (fakeGitHub) Lifetimes() (sensible, longest time.Duration) {
	return 15 * time.Minute, time.Hour
}

func (s fakeScope) Covers(other backend.Scope) bool {
	o, ok := other.(fakeScope)
	return ok && s.String() == o.String()
}

func (s fakeScope) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(s.Permissions)) {
		words = append(words, name+": "+s.Permissions[name])
	}
	return fmt.Sprintf("%s on %s/%s", strings.Join(words, ", "), s.Owner, strings.Join(s.Repositories, "+"))
}

// check is the configuration that the task files in testdata are written for.
func check() policy.Check {
	return policy.Check{
		Issuers: []identity.Issuer{
			{Name: "github", Kind: "github"},
			{Name: "ghes", Kind: "github"},
			{Name: "buildhost", Kind: "buildhost"},
			{Name: "forgejo", Kind: "forgejo"},
			{Name: "gitlab", Kind: "gitlab"},
			{Name: "buildkite", Kind: "buildkite"},
			{Name: "circleci", Kind: "circleci"},
			{Name: "kubernetes", Kind: "kubernetes"},
			{Name: "spiffe", Kind: "spiffe", TrustDomain: "example.org"},
			{Name: "semaphore", Kind: "oidc", Job: &identity.JobClaims{Key: []string{"prj_id", "job_id"}, Pin: []string{"prj_id"}}},
		},
		Backends: map[string]policy.Scoper{"github": fakeGitHub{}},
	}
}
