package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/stepkey/stepkey/exchange/policy"
)

// The parts of SARIF 2.1.0 (OASIS) that GitHub's code scanning reads, under the names
// that the standard gives them. Its regions count lines and columns from 1.
type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool       sarifTool     `json:"tool"`
	ColumnKind string        `json:"columnKind"`
	Results    []sarifResult `json:"results"` // never absent: without it the scan counts as not done
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID         string          `json:"id"`
	Short      sarifText       `json:"shortDescription"`
	Full       sarifText       `json:"fullDescription"`
	HelpURI    string          `json:"helpUri"`
	Help       sarifText       `json:"help"`
	Default    sarifDefault    `json:"defaultConfiguration"`
	Properties sarifProperties `json:"properties"`
}

type sarifText struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

type sarifDefault struct {
	Level string `json:"level"`
}

type sarifProperties struct {
	Tags []string `json:"tags"`
}

type sarifResult struct {
	RuleID       string             `json:"ruleId"`
	RuleIndex    int                `json:"ruleIndex"`
	Level        string             `json:"level"`
	Message      sarifText          `json:"message"`
	Locations    []sarifLocation    `json:"locations"`
	Fingerprints map[string]string  `json:"partialFingerprints"`
	Suppressions []sarifSuppression `json:"suppressions,omitempty"`
}

type sarifLocation struct {
	Physical sarifPhysical `json:"physicalLocation"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"` // absent: the whole file
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn"`
}

type sarifSuppression struct {
	Kind          string `json:"kind"`
	Justification string `json:"justification"`
}

func (v verdict) sarif() sarifLog {
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "stepkey-exchange check", Version: version, InformationURI: "https://github.com/stepkey/stepkey"}
	index := map[string]int{}
	for i, r := range policy.Rules() {
		index[r.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: r.ID, Short: sarifText{Text: r.Title}, Full: sarifText{Text: unmarked(r.Why)}, HelpURI: helpPage(r.ID),
			Help:    sarifText{Text: unmarked(r.Why + " " + r.Fix), Markdown: r.Why + "\n\n" + r.Fix},
			Default: sarifDefault{string(r.Severity)}, Properties: sarifProperties{[]string{"security"}},
		})
	}
	seen := map[string]int{}
	for _, f := range v.found {
		run.Results = append(run.Results, v.result(f, index[f.Rule.ID], seen))
	}
	return sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

func (v verdict) result(f policy.Finding, rule int, seen map[string]int) sarifResult {
	at := sarifPhysical{Artifact: sarifArtifact{v.uri(f.File)}}
	if f.Line > 0 {
		at.Region = &sarifRegion{f.Line, max(f.Column, 1)}
	}
	r := sarifResult{
		RuleID: f.Rule.ID, RuleIndex: rule, Level: string(f.Rule.Severity), Message: sarifText{Text: f.Message},
		Locations: []sarifLocation{{at}}, Fingerprints: map[string]string{"stepkeyFinding/v1": fingerprint(f, seen)},
	}
	if f.Accepted != "" {
		r.Suppressions = []sarifSuppression{{"inSource", f.Accepted}}
	}
	return r
}

// uri is a file as code scanning knows it: relative to the repository where the check
// runs there.
func (v verdict) uri(file string) string {
	path := filepath.ToSlash(v.path(file))
	u := url.URL{Path: path}
	if filepath.IsAbs(v.dir) {
		u.Scheme = "file"
	}
	return u.String()
}

// fingerprint stays the same when lines move, and differs for two alike in one file.
// It is not GitHub's primaryLocationLineHash: the step that uploads makes that one.
func fingerprint(f policy.Finding, seen map[string]int) string {
	what := strings.Join([]string{f.Rule.ID, f.File, strings.TrimSpace(f.Text)}, "\x00")
	seen[what]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", what, seen[what]))
	return hex.EncodeToString(sum[:16])
}

// unmarked is a text of a rule without the marks of its page.
func unmarked(markdown string) string { return strings.ReplaceAll(markdown, "`", "") }
