package policy

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// caching is one way in which an action comes to restore a cache: what runs of other
// branches and jobs may have written, and what the poisoned releases of December 2024
// and May 2026 came in by.
type caching struct {
	action string // owner/repository, in lower case; parts of it by their path
	input  string // what decides; empty: it always restores one
	how    switching
}

type switching int

const (
	always   switching = iota
	onIfSet            // off unless the input says something
	offIfNo            // on unless the input is false
	offIfYes           // on unless the input is true
)

// caches is the table, from the actions' own documentation. Where versions differ the
// row is of the version that caches more, since a digest does not tell the version. An
// action that is not in it may restore a cache all the same.
var caches = []caching{
	{"actions/cache", "", always},
	{"actions/cache/restore", "", always},
	{"actions/setup-dotnet", "cache", onIfSet},
	{"actions/setup-go", "cache", offIfNo},
	{"actions/setup-java", "cache", onIfSet},
	{"actions/setup-node", "cache", onIfSet},
	{"actions/setup-node", "package-manager-cache", offIfNo}, // from v5
	{"actions/setup-python", "cache", onIfSet},
	{"actions-rust-lang/setup-rust-toolchain", "cache", offIfNo},
	{"astral-sh/setup-uv", "enable-cache", offIfNo},
	{"docker/bake-action", "set", onIfSet}, // may set *.cache-from
	{"docker/build-push-action", "cache-from", onIfSet},
	{"docker/setup-buildx-action", "cache-binary", offIfNo},
	{"docker/setup-qemu-action", "cache-image", offIfNo},
	{"golangci/golangci-lint-action", "skip-cache", offIfYes},
	{"gradle/actions/setup-gradle", "cache-disabled", offIfYes},
	{"gradle/gradle-build-action", "cache-disabled", offIfYes},
	{"graalvm/setup-graalvm", "cache", onIfSet},
	{"jdx/mise-action", "cache", offIfNo},
	{"mozilla-actions/sccache-action", "", always},
	{"pnpm/action-setup", "cache", onIfSet},
	{"ruby/setup-ruby", "bundler-cache", onIfSet},
	{"swatinem/rust-cache", "", always},
}

// cachesOf returns the rows of what is used. Names on GitHub ignore case.
func cachesOf(used string) []caching {
	action, _, _ := strings.Cut(strings.ToLower(used), "@")
	var rows []caching
	for _, c := range caches {
		if c.action == strings.TrimSuffix(action, "/") {
			rows = append(rows, c)
		}
	}
	return rows
}

// restores reports whether the action does so in this step. What cannot be known
// before it runs is taken for the worse. Inputs ignore case, too.
func (c caching) restores(step yamlfile.Node) bool {
	value, set := c.value(step)
	switch c.how {
	case onIfSet:
		return set && value != "" && value != "false"
	case offIfNo:
		return value != "false"
	case offIfYes:
		return value != "true"
	}
	return true
}

// value is what the step's with has for the input. What is neither text nor yes or no
// counts as set to something.
func (c caching) value(step yamlfile.Node) (value string, set bool) {
	for _, key := range step.Keys() {
		if !strings.EqualFold(key, "with") {
			continue
		}
		with := step.Get(key)
		for _, input := range with.Keys() {
			if strings.EqualFold(input, c.input) {
				return inputText(with.Get(input)), true
			}
		}
	}
	return "", false
}

func inputText(n yamlfile.Node) string {
	var yes bool
	var words string
	switch {
	case n.Decode(&words) == nil:
		return strings.ToLower(strings.TrimSpace(words))
	case n.Decode(&yes) == nil && yes:
		return "true"
	case n.Decode(&yes) == nil:
		return "false"
	}
	return "something"
}

// advice says how to switch it off, where that can be.
func (c caching) advice() string {
	switch c.how {
	case onIfSet:
		return "; leave out " + c.input
	case offIfNo:
		return " does unless " + c.input + ": false"
	case offIfYes:
		return " does unless " + c.input + ": true"
	}
	return ""
}
