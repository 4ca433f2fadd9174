package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// install puts this program where the job's later steps find it. The runner mounts its
// temporary directory into this container and has RUNNER_TEMP say where: what lies there
// is at $RUNNER_TEMP in every later step, whatever that is called on the machine or in a
// job's container.
func (s *step) install(strays []stray) error {
	if err := s.onlyInstalling(strays); err != nil {
		return err
	}
	exchange := ""
	if given := s.gh.GetInput("exchange"); given != "" {
		c, err := s.dial(given)
		if err != nil {
			return err
		}
		if err := s.checkFiles("GITHUB_ENV"); err != nil {
			return err
		}
		exchange = c.URL()
	}
	temp := s.getenv("RUNNER_TEMP")
	if temp == "" {
		return &trouble{"not installed", "RUNNER_TEMP is not set: this program is to be started by a runner, as an action's entrypoint"}
	}
	self, err := os.Executable()
	if err != nil {
		return &trouble{"not installed", "this program does not find itself: " + err.Error()}
	}
	if err := copyProgram(self, filepath.Join(temp, "stepkey")); err != nil {
		return &trouble{"not installed", fmt.Sprintf("the program cannot be put into RUNNER_TEMP: %v. Look whether that directory is there and has room, and whether it holds something else of the name stepkey", err)}
	}
	if exchange != "" {
		if err := s.export("STEPKEY_EXCHANGE", exchange); err != nil {
			return err
		}
	}
	s.notice(fmt.Sprintf("neither `task` nor `lease` was given, so stepkey %s was installed as $RUNNER_TEMP/stepkey%s", version(), speaksTo(exchange)))
	return nil
}

func speaksTo(exchange string) string {
	if exchange == "" {
		return ""
	}
	return ", and STEPKEY_EXCHANGE is " + exchange
}

// onlyInstalling refuses what would have meant something had a task been named: that was
// forgotten, or misspelled, and to go on would look like success.
func (s *step) onlyInstalling(strays []stray) error {
	for _, stray := range strays {
		if stray.near == "task" || stray.near == "lease" {
			return badInput(stray.name, "is none of this action's; did you mean `"+stray.near+"`?")
		}
	}
	for _, ask := range []struct{ input, flag string }{{"ttl", "--ttl"}, {"inputs", "--input"}, {"audience", "--audience"}} {
		if s.gh.GetInput(ask.input) != "" {
			return badInput(ask.input, "is about a credential, and without `task` this step only installs the program: name the task, or give "+ask.flag+" to `stepkey exec`")
		}
	}
	exported, err := s.yesNo("export-env", false)
	if err != nil {
		return err
	}
	if exported {
		return badInput("export-env", "is about a credential, and without `task` this step only installs the program: name the task, or let `stepkey exec` give the variables to one command")
	}
	_, err = s.yesNo("summary", true)
	return err
}

// copyProgram writes under a name of its own first, so that nobody ever starts half a
// program, and one that runs already is left alone.
func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return withoutPath(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.CreateTemp(filepath.Dir(to), ".stepkey-")
	if err != nil {
		return withoutPath(err)
	}
	defer func() {
		if err != nil {
			_ = out.Close() // what failed before says more
			_ = os.Remove(out.Name())
		}
	}()
	if _, err = io.Copy(out, in); err != nil {
		return withoutPath(err)
	}
	if err = out.Chmod(0o755); err != nil {
		return withoutPath(err)
	}
	if err = out.Close(); err != nil {
		return withoutPath(err)
	}
	return withoutPath(os.Rename(out.Name(), to))
}

// withoutPath: the path is one inside the container, which nobody outside knows.
func withoutPath(err error) error {
	if at, ok := errors.AsType[*os.PathError](err); ok {
		return at.Err
	}
	if at, ok := errors.AsType[*os.LinkError](err); ok {
		return at.Err
	}
	return err
}
