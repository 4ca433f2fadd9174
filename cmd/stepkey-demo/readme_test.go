package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// What the first page shows is what there is: its YAML stands so in the workflows to
// copy and in the task file that the demo uses, its commands are the Makefile's.
func TestTheFirstPageShowsWhatThereIs(t *testing.T) {
	runs := read(t, "../../workflows/release.yml") + read(t, "../../workflows/exec.yml") + string(taskFile)
	makefile := read(t, "../../Makefile")
	for _, b := range fence.FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		switch kind, text := b[1], b[2]; kind {
		case "yaml":
			if !strings.Contains(runs, text) {
				t.Errorf("this stands in no file that is run:\n%s", text)
			}
		case "sh":
			for _, m := range regexp.MustCompile(`(?m)^make (\w+)`).FindAllStringSubmatch(text, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("there is no make %s", m[1])
				}
			}
		}
	}
}

// shown are the lines of the story that the first page shows, without what differs
// from run to run.
func shown(t *testing.T) []string {
	t.Helper()
	for _, b := range fence.FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		if b[1] == "text" {
			return strings.Split(strings.TrimSpace(b[2]), "\n")
		}
	}
	t.Fatal("the first page shows no story")
	return nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
