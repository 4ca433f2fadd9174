package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sethvargo/go-githubactions"
)

// delimiter ends a value in the runner's command files. The library uses this
// fixed one, so a value that contains it could end itself and add entries of its
// own: such values are refused.
const delimiter = "_GitHubActionsFileCommandDelimeter_"

// A runner is the conversation with the machine that runs the job: what it tells
// us in variables, and what we tell it in log commands and command files.
type runner struct {
	gh     *githubactions.Action
	getenv func(string) string
	voice  *voice // of a command that people and scripts start; nil for the action's halves
}

func newRunner(getenv func(string) string, log io.Writer) runner {
	return runner{
		gh:     githubactions.New(githubactions.WithGetenv(getenv), githubactions.WithWriter(log)),
		getenv: getenv,
	}
}

// checkFiles makes sure that command files can be written before anything is
// asked for that would have to be handed over through them.
func (r runner) checkFiles(variables ...string) error {
	for _, variable := range variables {
		path := r.getenv(variable)
		if path == "" {
			return &trouble{"no way to hand over", variable + " is not set: this program is to be started by a runner, as an action's entrypoint"}
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return &trouble{"no way to hand over", fmt.Sprintf("the file that %s names cannot be written: %v", variable, errors.Unwrap(err))}
		}
		if err := f.Close(); err != nil {
			return &trouble{"no way to hand over", fmt.Sprintf("the file that %s names cannot be written: %v", variable, errors.Unwrap(err))}
		}
	}
	return nil
}

// save keeps a value for the post half, which finds it by saved.
func (r runner) save(name, value string) error {
	if r.voice != nil {
		return nil // what a command begins it also ends: there is no other half
	}
	return r.entry("state", name, value, r.gh.SaveState)
}
func (r runner) saved(name string) string { return r.getenv("STATE_" + name) }

func (r runner) output(name, value string) error {
	return r.entry("output", name, value, r.gh.SetOutput)
}

func (r runner) export(name, value string) error {
	return r.entry("variable", name, value, r.gh.SetEnv)
}

// entry writes one entry of a command file.
func (r runner) entry(what, name, value string, write func(name, value string)) error {
	if err := fits(value); err != nil {
		return fmt.Errorf("the %s %s: %w", what, name, err)
	}
	if err := guarded(func() { write(name, value) }); err != nil {
		return fmt.Errorf("writing the %s %s: %w", what, name, err)
	}
	return nil
}

// fits reports why a value cannot travel through a command file.
func fits(value string) error {
	if strings.Contains(value, delimiter) {
		return errors.New("its value contains the delimiter of the runner's command files and could add entries of its own")
	}
	if strings.ContainsRune(value, 0) {
		return errors.New("its value contains a NUL byte, which no environment can hold")
	}
	return nil
}

// guarded turns the library's panics, which it uses for every failed write, into
// errors.
func guarded(write func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = p
		default:
			err = errors.New("the runner's file or log cannot be written")
		}
	}()
	write()
	return nil
}

// appendSummary adds to the job's summary page. Runners without one are left alone.
func (r runner) appendSummary(markdown string) {
	if r.getenv("GITHUB_STEP_SUMMARY") == "" {
		return
	}
	if err := guarded(func() { r.gh.AddStepSummary(markdown) }); err != nil {
		r.warn("no summary", "the job summary cannot be written: "+err.Error())
	}
}

// mask has the runner replace value by *** in all that is logged from here on.
func (r runner) mask(value string) error {
	if r.voice != nil {
		return r.voice.mask(value)
	}
	return guarded(func() { r.gh.AddMask(value) })
}

// The log's own failures are not told: there is nothing left to tell them with.

func (r runner) info(format string, args ...any) {
	if r.voice != nil {
		r.voice.say(fmt.Sprintf(format, args...))
		return
	}
	_ = guarded(func() { r.gh.Infof("Stepkey: %s", inert(format, args...)) })
}

func (r runner) debug(format string, args ...any) {
	if r.getenv("RUNNER_DEBUG") == "1" && (r.voice == nil || r.voice.github) {
		_ = guarded(func() { r.gh.Debugf("stepkey: %s", inert(format, args...)) })
	}
}

// notice is the one line of a success that the job's page shows.
func (r runner) notice(text string) {
	_ = guarded(func() { r.gh.WithFieldsMap(map[string]string{"title": "Stepkey"}).Noticef("%s", inert("%s", text)) })
}

func (r runner) warn(title, text string) {
	if r.voice != nil && !r.voice.github {
		r.voice.insist("warning: " + text)
		return
	}
	_ = guarded(func() { r.titled(title).Warningf("%s", text) })
}

func (r runner) fail(title, text string) {
	if r.voice != nil && !r.voice.github {
		r.voice.insist(text)
		return
	}
	_ = guarded(func() { r.titled(title).Errorf("%s", text) })
}

func (r runner) titled(title string) *githubactions.Action {
	return r.gh.WithFieldsMap(map[string]string{"title": "Stepkey: " + title})
}

// inert keeps a log line from being read as a command: the runner also obeys the
// old form ##[name] anywhere in a line.
func inert(format string, args ...any) string {
	return strings.NewReplacer("##[", "## [", "\n", " ", "\r", " ").Replace(fmt.Sprintf(format, args...))
}
