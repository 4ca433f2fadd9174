package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// JobClaims say of an issuer of the kind oidc which claims name the job. Each is a claim
// at the top of the token, a string or a positive whole number.
type JobClaims struct {
	// Key names the job, all of these together. Two jobs must never have the same.
	Key []string `yaml:"key,required"`
	// Pin are ids that are never given to another owner. Every entry of a task file must
	// match one of them.
	Pin []string `yaml:"pin,required"`
	// Shared: many workloads at once have the same key, such as the replicas of a service.
	Shared bool `yaml:"shared"`
	// Project and Run are the issuer's names for what a job belongs to, if it has such.
	Project string `yaml:"project"`
	Run     string `yaml:"run"`
}

const maxJobClaims = 8

// check says what is wrong with the block.
func (j JobClaims) check() error {
	if len(j.Key) == 0 || len(j.Key) > maxJobClaims || len(j.Pin) == 0 || len(j.Pin) > maxJobClaims {
		return fmt.Errorf("job: key and pin each list 1 to %d claims", maxJobClaims)
	}
	for _, list := range [][]string{j.Key, j.Pin} {
		for at, name := range list {
			if slices.Contains(list[:at], name) {
				return fmt.Errorf("job: the claim %q is listed twice", name)
			}
		}
	}
	for _, name := range j.all() {
		switch {
		case !isClaimName(name):
			return fmt.Errorf("job: %q is no name of a claim: 1 to 128 visible characters", name)
		case slices.Contains([]string{"iss", "aud", "exp", "iat", "nbf", "jti"}, name):
			return fmt.Errorf("job: the claim %s says nothing of a job: it is the same for every token, or another for each", name)
		}
	}
	if j.Shared {
		return nil
	}
	if slices.Equal(j.Key, []string{"sub"}) {
		return errors.New("job: sub alone names whoever is the same at every run; add a claim of the run or the job, or say shared: true")
	}
	return nil
}

func (j JobClaims) all() []string {
	all := slices.Concat(j.Key, j.Pin)
	for _, name := range []string{j.Project, j.Run} {
		if name != "" {
			all = append(all, name)
		}
	}
	return all
}

// complete is the row of kind oidc with what the operator says.
func (j JobClaims) complete(k kind) kind {
	k.forms = []formed{as(textOrNumber, j.all()...)}
	k.key, k.shared = j.Key, j.Shared
	k.repository, k.run = j.Project, j.Run
	for at, name := range j.Key {
		before := " "
		if at == 0 {
			before = ""
		}
		k.name = append(k.name, part{before: before + name + " ", claim: name})
	}
	return k
}

func isClaimName(name string) bool {
	return name != "" && len(name) <= 128 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}
