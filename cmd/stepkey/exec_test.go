package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// execIn runs a shell's line in a world of its own, with stepkey in PATH.
func execIn(t *testing.T, line string) (*theWorld, string) {
	t.Helper()
	w := newWorld()
	t.Cleanup(w.close)
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "NOW=" + storyBegins, "STEPKEY_EXCHANGE=" + w.server.URL, "GORACE=atexit_sleep_ms=0",
		"ACTIONS_ID_TOKEN_REQUEST_URL=" + w.server.URL + "/idtoken", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w, string(out)
}

// What is waited for between the command's end and the credential's is bounded below a
// second; how long a machine takes for the rest is a benchmark's matter.
func TestTheCredentialDiesWithinASecondOfTheCommand(t *testing.T) {
	if w := standardWaits(); w.groupEnd <= 0 || w.groupEnd >= time.Second {
		t.Errorf("what a command leaves running is waited for %v", w.groupEnd)
	}
	const stubborn = `(trap "" TERM; echo >up; exec sleep 1000) & until test -e up; do :; done; `
	for name, command := range map[string]string{"alone": "", "with one that does not end when told to": stubborn} {
		w, out := execIn(t, `stepkey exec --quiet --task publish-release -- sh -c '`+command+`echo done'`)
		if out != "done\n" {
			t.Fatalf("%s: %q", name, out)
		}
		if alive := w.living.at(time.Time{}); len(alive) > 0 {
			t.Errorf("%s: %q lives", name, alive)
		}
	}
}

func TestTheCommandHasTheLimitsThatStepkeyWasGiven(t *testing.T) {
	const show = `ulimit -S -c; ulimit -H -c; ulimit -S -n; ulimit -H -n`
	const set = `ulimit -S -c 8; ulimit -S -n 512; `
	_, want := execIn(t, set+show)
	_, got := execIn(t, set+`stepkey exec --quiet --task publish-release -- sh -c '`+show+`'`)
	if got != want || !strings.HasPrefix(want, "8\n") {
		t.Errorf("the command's limits are %q, not %q", got, want)
	}
}

func TestTheCommandLeadsAGroupOfItsOwn(t *testing.T) {
	_, out := execIn(t, `stepkey exec --quiet --task publish-release -- sh -c 'echo $$; cut -d" " -f5 /proc/$$/stat'`)
	if lines := strings.Fields(out); len(lines) != 2 || lines[0] != lines[1] {
		t.Errorf("%q", lines)
	}
}

// It has the files that stepkey was given, also those beside stdin, stdout and stderr
// (make hands some down), and none of stepkey's own.
func TestTheCommandHasTheFilesThatStepkeyWasGiven(t *testing.T) {
	const given, show = `exec 3</dev/null 7>/dev/null; `, `ls /proc/$$/fd`
	_, want := execIn(t, given+`sh -c '`+show+`'`)
	_, got := execIn(t, given+`stepkey exec --quiet --task publish-release --file TOKEN_FILE=token -- sh -c '`+show+`'`)
	if got != want || !slices.Contains(strings.Fields(want), "7") {
		t.Errorf("the command has the files %q, not %q", got, want)
	}
}

func TestNobodyReadsOurMemory(t *testing.T) {
	if err := beUnreadable(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) })
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("%d, %v", dumpable, err)
	}
}

// Whatever stood in the environment: what is withheld is not in it, what is set is in it
// once and as it was set, and all else stays.
func TestTheEnvironmentOfACommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"A", "B", "GH_TOKEN", "STEPKEY_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "PATH", ""})
		var before []string
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			before = append(before, name.Draw(t, "name")+rapid.SampledFrom([]string{"=", "=x", "=x=y", ""}).Draw(t, "value"))
		}
		without := rapid.SliceOf(name).Draw(t, "without")
		set := rapid.MapOf(rapid.SampledFrom([]string{"A", "GH_TOKEN", "NEW"}), rapid.Just("given")).Draw(t, "set")
		after := environment(before, without, set)
		count := map[string]int{}
		for _, entry := range after {
			key, value, _ := strings.Cut(entry, "=")
			count[key]++
			given, isSet := set[key]
			if isSet && value != given || !isSet && slices.Contains(without, key) {
				t.Fatalf("%q stands in it", entry)
			}
		}
		for key := range set {
			if count[key] != 1 {
				t.Fatalf("%s stands in it %d times", key, count[key])
			}
		}
		for _, entry := range before {
			key, _, _ := strings.Cut(entry, "=")
			if _, isSet := set[key]; !isSet && !slices.Contains(without, key) && !slices.Contains(after, entry) {
				t.Fatalf("%q is lost", entry)
			}
		}
	})
}

func TestTheTokenOfTheChosenSourceIsWithheld(t *testing.T) {
	s := &step{runner: newRunner(func(string) string { return "" }, nil)}
	for given, variable := range map[string]string{"env:MY_TOKEN": "MY_TOKEN", "gitlab:RELEASE_TOKEN": "RELEASE_TOKEN", "gitlab": "STEPKEY_ID_TOKEN", "github": "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "buildkite": "BUILDKITE_AGENT_ACCESS_TOKEN"} {
		chosen, err := s.sourceNamed(given)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(withheld(chosen), variable) {
			t.Errorf("%s: the command gets %s", given, variable)
		}
	}
}

func TestCommandsAreFoundAsAShellFindsThem(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{"one/tool": 0o644, "two/tool": 0o755, "one/plain": 0o644, "two/other": 0o755} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "one") + ":" + filepath.Join(dir, "two")
	for name, want := range map[string]string{"tool": "two/tool", "other": "two/other", dir + "/two/other": "two/other"} {
		found, err := findProgram([]string{name, "arg"}, path)
		if err != nil || found.path != filepath.Join(dir, want) || !slices.Equal(found.args, []string{name, "arg"}) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	for name, want := range map[string]int{"plain": exitNotExecutable, "none": exitNotFound, dir: exitNotExecutable, dir + "/none": exitNotFound, "": exitNotFound} {
		_, err := findProgram([]string{name}, path)
		if got, ok := err.(*unstartable); !ok || got.code != want { //nolint:errorlint // never wrapped
			t.Errorf("%q: %v, want exit code %d", name, err, want)
		}
	}
	t.Chdir(filepath.Join(dir, "two"))
	if found, err := findProgram([]string{"other"}, "/none:"); err != nil || found.path != "./other" {
		t.Errorf("an empty entry of PATH: %+v, %v", found, err)
	}
}

func TestTimeLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "no time left", 0: "no time left", 400 * time.Millisecond: "no time left", time.Second: "0:01 left",
		4*time.Minute + 59*time.Second + 600*time.Millisecond: "5:00 left", time.Hour: "1:00:00 left", 26*time.Hour + 3*time.Second: "26:00:03 left",
	} {
		if got := left(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// What others wrote can move no cursor and give a runner no command.
func TestALineIsOneLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text") + rapid.SampledFrom([]string{"", "\n::add-path::x", "\x1b[2J", "##[add-path]x", "\u009b2J"}).Draw(t, "evil")
		if got := oneLine(text); strings.ContainsAny(got, "\r\n\x1b\u009b\x07") || strings.Contains(got, "##[") {
			t.Fatalf("%q", got)
		}
	})
}

func TestAParentIsFound(t *testing.T) {
	if got := parentOf(os.Getpid()); got != os.Getppid() {
		t.Errorf("%d, want %d", got, os.Getppid())
	}
	if got := parentOf(1 << 30); got != 0 {
		t.Errorf("a process that is not there has the parent %d", got)
	}
}
