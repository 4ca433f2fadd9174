package backendtest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Page is a page of the documentation, by its path from the test's own folder. What it
// shows is run by tests, so that it stays true.
type Page string

// Read returns the page's fenced blocks of one kind, in order.
func (p Page) Read(kind string) ([]string, error) {
	text, err := os.ReadFile(string(p))
	if err != nil {
		return nil, fmt.Errorf("reading a page: %w", err)
	}
	var all []string
	for _, found := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, found[1])
	}
	return all, nil
}

// Blocks are those that Read returns; there is at least one.
func (p Page) Blocks(t testing.TB, kind string) []string {
	t.Helper()
	all, err := p.Read(kind)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s has no block of %s", p, kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Block is the one that begins so.
func (p Page) Block(t testing.TB, kind, begins string) string {
	t.Helper()
	for _, block := range p.Blocks(t, kind) {
		if strings.HasPrefix(block, begins) {
			return block
		}
	}
	t.Fatalf("%s has no block of %s that begins with %q", p, kind, begins)
	return ""
}

// TellsOf demands a row of a table for each key: those of a configuration, and others.
func (p Page) TellsOf(t testing.TB, configuration []yamlfile.Key, others ...string) {
	t.Helper()
	text, err := os.ReadFile(string(p))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range configuration {
		others = append(others, key.Name)
	}
	for _, key := range others {
		if !regexp.MustCompile(`(?m)^\|[^|]*` + "`" + key + "`").Match(text) {
			t.Errorf("no table of %s has %s", p, key)
		}
	}
}
