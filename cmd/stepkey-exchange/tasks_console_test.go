package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every console block of the page is what its command prints, in a folder that holds the
// page's file of tests, its task, and the fixture that the command names.
func TestTheCommandsOfThePageOfTasksPrintWhatItSays(t *testing.T) {
	dir := t.TempDir()
	files := pageFiles(t, "tasks")
	for name, text := range files {
		task, isTest := strings.CutSuffix(name, ".test.yaml")
		if !isTest {
			continue
		}
		write(t, dir, filepath.Join("tasks", name), []byte(text))
		write(t, dir, filepath.Join("tasks", task+".yaml"), []byte(files[task+".yaml"]))
	}
	claims, err := os.ReadFile("../../testdata/claims/push-tag.json")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "push-tag.json", claims)
	shown, ran := blocks(t, tasksPage), 0
	t.Chdir(dir)
	for _, b := range shown {
		line, want, _ := strings.Cut(b.text, "\n")
		command, ours := strings.CutPrefix(line, "$ stepkey-exchange ")
		if b.kind != "console" || !ours {
			continue
		}
		ran++
		var printed bytes.Buffer
		run(strings.Fields(command), surroundings{&printed, &printed})
		if printed.String() != want {
			t.Errorf("%s prints\n%s\nand the page says\n%s", line, printed.String(), want)
		}
	}
	if ran < 2 {
		t.Errorf("the page has %d commands", ran)
	}
}
