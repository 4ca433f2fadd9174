package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/policy"
)

// folder has an error, two alike in one file, a warning, one that is accepted, and a
// file about which something is said as a whole.
var sarifFolder = fstest.MapFS{
	"label.yaml": {Data: []byte(`task: label
purpose: Label pull requests.
allow:
  - issuer: github
    claims: {repository: acme/widget, event_name: push, environment: labels}
  - issuer: github
    claims: {repository: acme/gadget, event_name: push, environment: labels}
credential:
  github: {repository_ids: [456789], permissions: {pull_requests: write}}
limits: {ttl: 30m}
accept: {ttl-long: it waits for a reviewer}
`)},
	"large file.yaml": {Data: bytes.Repeat([]byte("#\n"), 200<<10)},
}

func sarifOf(t *testing.T, dir string, files fstest.MapFS) ([]byte, sarifLog) {
	t.Helper()
	against, err := anything()
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := policy.Lint(files, against)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (verdict{dir: dir, found: found}).print("sarif", surroundings{out: &out}); err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(out.Bytes()))
	strict.DisallowUnknownFields()
	var log sarifLog
	if err := strict.Decode(&log); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), log
}

// What SARIF 2.1.0 and GitHub's code scanning demand of a file: section by section of
// the standard, as far as it is used.
func TestTheSarifFileHasWhatCodeScanningNeeds(t *testing.T) {
	text, log := sarifOf(t, "tasks", sarifFolder)
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 {
		t.Fatalf("version %q, schema %q, %d runs", log.Version, log.Schema, len(log.Runs))
	}
	if again, err := json.MarshalIndent(log, "", "  "); err != nil || !json.Valid(text) || len(again) == 0 {
		t.Error(err)
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name == "" || run.ColumnKind != "unicodeCodePoints" {
		t.Errorf("driver %q, columns %q", run.Tool.Driver.Name, run.ColumnKind)
	}
	rules := run.Tool.Driver.Rules
	if len(rules) != len(policy.Rules()) {
		t.Errorf("%d rules of %d", len(rules), len(policy.Rules()))
	}
	for _, r := range rules {
		help, err := url.Parse(r.HelpURI)
		if err != nil || !help.IsAbs() || help.Fragment != r.ID || r.Short.Text == "" || r.Full.Text == "" || r.Help.Text == "" || !isLevel(r.Default.Level) {
			t.Errorf("rule %+v", r)
		}
	}
	seen := map[string]bool{}
	for _, r := range run.Results {
		if r.RuleIndex < 0 || r.RuleIndex >= len(rules) || rules[r.RuleIndex].ID != r.RuleID || !isLevel(r.Level) || r.Message.Text == "" || len(r.Locations) != 1 {
			t.Fatalf("result %+v", r)
		}
		place := r.Locations[0].Physical
		if _, err := url.Parse(place.Artifact.URI); err != nil || place.Artifact.URI == "" {
			t.Errorf("%q is no URI: %v", place.Artifact.URI, err)
		}
		if at := place.Region; at != nil && (at.StartLine < 1 || at.StartColumn < 1) {
			t.Errorf("SARIF counts from 1: %+v", at)
		}
		fingerprint := r.Fingerprints["stepkeyFinding/v1"]
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(fingerprint) || seen[fingerprint] {
			t.Errorf("the fingerprint %q is of two, or none", fingerprint)
		}
		seen[fingerprint] = true
	}
}

func isLevel(level string) bool { return level == "error" || level == "warning" }

func TestTheSarifResultsAreTheFindings(t *testing.T) {
	_, log := sarifOf(t, "tasks", sarifFolder)
	var got []string
	for _, r := range log.Runs[0].Results {
		words := r.Level + " " + r.RuleID + " " + r.Locations[0].Physical.Artifact.URI
		if r.Locations[0].Physical.Region == nil {
			words += " as a whole"
		}
		for _, s := range r.Suppressions {
			words += ", " + s.Kind + ": " + s.Justification
		}
		got = append(got, words)
	}
	want := []string{
		"error unpinned tasks/label.yaml",
		"warning environment-unprotected tasks/label.yaml",
		"error unpinned tasks/label.yaml",
		"warning environment-unprotected tasks/label.yaml",
		"warning ttl-long tasks/label.yaml, inSource: it waits for a reviewer",
		"error form tasks/large%20file.yaml as a whole",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Code scanning tells old findings from new ones by these: a comment above must not
// make all of them new.
func TestAFindingKeepsItsFingerprintWhenItsLineMoves(t *testing.T) {
	_, before := sarifOf(t, "tasks", sarifFolder)
	moved := fstest.MapFS{"label.yaml": {Data: append([]byte("# moved\n"), sarifFolder["label.yaml"].Data...)}}
	_, after := sarifOf(t, "elsewhere/tasks", moved)
	for i, r := range after.Runs[0].Results {
		old := before.Runs[0].Results[i]
		if diff := cmp.Diff(old.Fingerprints, r.Fingerprints); diff != "" {
			t.Error(diff)
		}
		if r.Locations[0].Physical.Region.StartLine != old.Locations[0].Physical.Region.StartLine+1 {
			t.Errorf("%s did not move", r.RuleID)
		}
	}
}

func TestAFolderWithoutFindingsIsARunWithoutResults(t *testing.T) {
	text, log := sarifOf(t, "tasks", fstest.MapFS{})
	if log.Runs[0].Results == nil || !bytes.Contains(text, []byte(`"results": []`)) {
		t.Errorf("results are absent, so old ones would stay open:\n%s", text)
	}
}
