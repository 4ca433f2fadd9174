package main

import (
	"strings"
	"testing"
)

func TestATaskOfARepositoryIsANameToo(t *testing.T) {
	longest := strings.Repeat("o", 39) + "/" + strings.Repeat("r", 100) + ":" + strings.Repeat("t", 63)
	for given, want := range map[string]bool{
		"publish-release": true, "acme/widget:publish-release": true, longest: true,
		"": false, "two tasks": false, strings.Repeat("t", longestTask+1): false, "tâche": false,
	} {
		if got, err := taskName(given); (err == nil) != want || want && got != given {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
}
