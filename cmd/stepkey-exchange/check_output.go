package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/stepkey/stepkey/exchange/policy"
)

// verdict is what came of checking a folder.
type verdict struct {
	dir   string
	set   *policy.Set // nil where a finding is an error
	found []policy.Finding
	tests []policy.Tested // none where a task file is refused: its tests would test nothing
}

// runTests adds what comes of the tests. A test that comes out otherwise is an error as
// any other, and then there is no set.
func (v *verdict) runTests(folder fs.FS, against policy.Check) (err error) {
	if v.set == nil {
		return nil
	}
	v.tests, err = v.set.Test(folder, against)
	for _, t := range v.tests {
		v.found = append(v.found, t.Findings...)
	}
	if v.count(policy.Error) > 0 {
		v.set = nil
	}
	return err
}

func (v verdict) count(s policy.Severity) (n int) {
	for _, f := range v.found {
		if f.Is(s) {
			n++
		}
	}
	return n
}

func (v verdict) accepted() (n int) {
	for _, f := range v.found {
		if f.Accepted != "" {
			n++
		}
	}
	return n
}

// summary counts, in words: "1 error and 2 warnings in the task files of tasks (1 accepted)".
func (v verdict) summary() string {
	words := fmt.Sprintf("%s and %s in the task files of %s", plural(v.count(policy.Error), "error"), plural(v.count(policy.Warning), "warning"), v.dir)
	if n := v.accepted(); n > 0 {
		words += fmt.Sprintf(" (%d accepted)", n)
	}
	return words
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (v verdict) print(as string, around surroundings) error {
	switch as {
	case "json":
		return printIndented(around.out, v.report())
	case "sarif":
		return printIndented(around.out, v.sarif())
	}
	return v.printText(around)
}

func printIndented(out io.Writer, what any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(what)
}

// printText puts findings where errors go, and the tasks where results go. A failing
// check ends with its summary as the command's error; one that does not, with the
// summary only if there is something to sum up.
func (v verdict) printText(around surroundings) error {
	before := ""
	for _, f := range v.found {
		if f.Accepted != "" {
			continue
		}
		if before != "" && before != f.File {
			fmt.Fprintln(around.err)
		}
		before = f.File
		if _, err := io.WriteString(around.err, v.words(f)); err != nil {
			return err
		}
	}
	if v.set != nil {
		if err := v.printTasks(around.out); err != nil {
			return err
		}
	}
	if err := v.printTests(around.out); err != nil {
		return err
	}
	if v.set == nil || len(v.found) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(around.err, "%s; docs/findings.md explains each by its name\n", v.summary())
	return err
}

// words are one finding for people: a line that editors find the place by, the excerpt,
// and what to do.
func (v verdict) words(f policy.Finding) string {
	var b strings.Builder
	b.WriteString(v.path(f.File))
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	fmt.Fprintf(&b, ": %s %s: %s\n", f.Rule.Severity, f.Rule.ID, f.Message)
	if f.Excerpt != "" {
		b.WriteString(f.Excerpt + "\n")
	}
	if f.Explained != "" {
		b.WriteString("    " + strings.ReplaceAll(strings.TrimSuffix(f.Explained, "\n"), "\n", "\n    ") + "\n")
	}
	if f.Rule.ID != policy.Form {
		fmt.Fprintf(&b, "    fix: %s\n", unmarked(f.Rule.Fix))
	}
	return b.String()
}

func (v verdict) path(file string) string { return filepath.Join(v.dir, file) }

func (v verdict) printTasks(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TASK\tGIVES\tFOR AT MOST\tPER JOB\tPURPOSE")
	for _, t := range v.set.Tasks() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", t.Name, t.Gives(), t.TTL, t.PerJob, t.Purpose)
	}
	return table.Flush()
}

// printTests counts the tests of each file.
func (v verdict) printTests(out io.Writer) error {
	for _, t := range v.tests {
		words := plural(t.Passed, "test") + " passed"
		if t.Failed > 0 || len(t.Findings) > 0 {
			words = fmt.Sprintf("%d of %s passed", t.Passed, plural(t.Passed+t.Failed, "test"))
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", v.path(t.File), words); err != nil {
			return err
		}
	}
	return nil
}

// report is the shape of --output json. Keys are added and never change their meaning.
type report struct {
	Version  int             `json:"version"` // of this shape: 1
	Errors   int             `json:"errors"`
	Warnings int             `json:"warnings"`
	Accepted int             `json:"accepted"`
	Findings []reportFinding `json:"findings"`
	Tasks    []reportTask    `json:"tasks"` // empty where there are errors
	// Tests are the files of tests beside the tasks; absent where there is none, or a
	// task file is refused.
	Tests []reportTests `json:"tests,omitempty"`
}

type reportTests struct {
	Task   string `json:"task"`
	File   string `json:"file"`
	Passed int    `json:"passed"`
	Failed int    `json:"failed"`
}

type reportFinding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`           // error or warning
	Accepted string `json:"accepted,omitempty"` // the file's reason; then it counts as neither
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"` // from 1; absent where it is about the whole file
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
	Text     string `json:"text,omitempty"` // the line
	Fix      string `json:"fix"`
	Help     string `json:"help"`
	// Explained is the tree of the decision, of a test that came out otherwise.
	Explained string `json:"explained,omitempty"`
}

type reportTask struct {
	Task       string `json:"task"`
	File       string `json:"file"`
	Purpose    string `json:"purpose"`
	Backend    string `json:"backend"`
	Gives      string `json:"gives"`
	TTLSeconds int    `json:"ttl_seconds"`
	PerJob     int    `json:"per_job"`
}

func (v verdict) report() report {
	r := report{
		Version: 1, Errors: v.count(policy.Error), Warnings: v.count(policy.Warning), Accepted: v.accepted(),
		Findings: []reportFinding{}, Tasks: []reportTask{},
	}
	for _, f := range v.found {
		r.Findings = append(r.Findings, reportFinding{
			ID: f.Rule.ID, Severity: string(f.Rule.Severity), Accepted: f.Accepted, File: filepath.ToSlash(v.path(f.File)),
			Line: f.Line, Column: f.Column, Message: f.Message, Text: f.Text, Fix: f.Rule.Fix, Help: helpPage(f.Rule.ID), Explained: f.Explained,
		})
	}
	for _, t := range v.tests {
		r.Tests = append(r.Tests, reportTests{Task: t.Task, File: filepath.ToSlash(v.path(t.File)), Passed: t.Passed, Failed: t.Failed})
	}
	if v.set == nil {
		return r
	}
	for _, t := range v.set.Tasks() {
		r.Tasks = append(r.Tasks, reportTask{
			Task: t.Name, File: filepath.ToSlash(v.path(t.File)), Purpose: t.Purpose, Backend: t.Backend,
			Gives: t.Gives(), TTLSeconds: int(t.TTL.Seconds()), PerJob: t.PerJob,
		})
	}
	return r
}

// helpPage is where a rule is explained.
func helpPage(rule string) string {
	return "https://github.com/stepkey/stepkey/blob/main/docs/findings.md#" + rule
}
