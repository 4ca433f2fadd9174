package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// asStepkey is the real program in a process of its own, in a story's surroundings.
func asStepkey(t *testing.T, w *theWorld, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Args[0] = "stepkey" // which is what testscript.Main goes by
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOW=" + storyBegins, "STEPKEY_EXCHANGE=" + w.server.URL, "STEPKEY_ID_TOKEN=" + w.mintToken(w.server.URL)}
	return cmd
}

// head -1 is done after a line, and a script's reader may be gone before: that must not
// kill the one who has to give the credential back.
func TestAReaderThatIsGoneGetsNothingAndTheExchangeGetsItBack(t *testing.T) {
	w := newWorld()
	t.Cleanup(w.close)
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := asStepkey(t, w, "issue", "--task", "publish-release")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	failed, ok := errors.AsType[*exec.ExitError](cmd.Run())
	_ = stdout.Close()
	if !ok || failed.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "broken pipe. The credential was given back: lease_01 is revoked") {
		t.Errorf("%v: %s", failed, &stderr)
	}
	if log := w.takeLog(); !strings.Contains(log, "/revoke lease token skl_handle") {
		t.Error(log)
	}
}

// aTerminal is one that nobody sits at.
func aTerminal(t *testing.T) *os.File {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		needs.Started(t, fmt.Errorf("%w: %w", needs.Missing{What: "a pseudo-terminal"}, err))
	}
	t.Cleanup(func() { _ = control.Close() })
	fd := int(control.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		needs.Started(t, fmt.Errorf("%w: %w", needs.Missing{What: "a pseudo-terminal"}, err))
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return terminal
}

func TestNoTerminalShowsACredentialOrIsWaitedFor(t *testing.T) {
	w := newWorld()
	t.Cleanup(w.close)
	for says, args := range map[string][]string{
		"would be shown on this terminal": {"issue", "--task", "publish-release"},
		"give the lease token: on stdin":  {"revoke"},
	} {
		cmd := asStepkey(t, w, args...)
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = aTerminal(t), aTerminal(t), &stderr
		failed, ok := errors.AsType[*exec.ExitError](cmd.Run())
		if !ok || failed.ExitCode() != exitUsage || !strings.Contains(stderr.String(), says) {
			t.Errorf("%q: %v: %s", args, failed, &stderr)
		}
	}
	if log := w.takeLog(); log != "" {
		t.Errorf("asked: %s", log)
	}
	cmd := asStepkey(t, w, "issue", "--task", "publish-release", "--output", "credential.json")
	cmd.Stdout = aTerminal(t)
	if err := cmd.Run(); err != nil {
		t.Errorf("into a file: %v", err)
	}
}

// No argument and no variable of any process holds what issue prints.
func TestWhatIsIssuedIsInNoArgument(t *testing.T) {
	w := newWorld()
	t.Cleanup(w.close)
	cmd := asStepkey(t, w, "issue", "--task", "publish-release", "--output", "credential.json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err, stderr.String())
	}
	for _, shown := range []string{stdout.String(), stderr.String(), strings.Join(cmd.Args, " ")} {
		if strings.Contains(shown, "canary") || strings.Contains(shown, "skl_handle") || strings.Contains(shown, "eyJ") {
			t.Errorf("%q", shown)
		}
	}
	left, err := os.ReadDir(cmd.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != "credential.json" {
		t.Errorf("%v, %v", left, err)
	}
}

// Whatever an exchange gives, a shell's eval sets variables and does nothing else.
func TestAShellReadsWhatWasWritten(t *testing.T) {
	needs.Programs(t, "sh")
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.StringMatching(`[ -~]{0,8}`), rapid.SampledFrom([]string{"'", `\`, "\n", "$(exit 7)", "`exit 7`", "\"", "'; exit 7; '", "ä", "\r", "!!"}))
		value := strings.Join(rapid.SliceOfN(piece, 1, 6).Draw(t, "value"), "")
		text, err := renderedEnv(&client.Grant{LeaseToken: secret.New("skl_1"), Env: map[string]secret.String{"V": secret.New(value)}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := exec.Command("sh", "-c", `eval "$1"; printf '%s|%s.' "$V" "$STEPKEY_LEASE"`, "sh", string(text)).Output()
		if err != nil || string(got) != value+"|skl_1." {
			t.Fatalf("%q became %q (%v)", value, got, err)
		}
	})
}

func TestASecretFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "credential")
	f, err := newSecretFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it is there before there is anything in it")
	}
	if err := f.appear([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	f.drop()
	f.drop()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("not kept, and left behind: %v %v", left, err)
	}

	if f, err = newSecretFile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // somebody else was there first
		t.Fatal(err)
	}
	if err := f.appear([]byte("secret")); err == nil {
		t.Error("a folder was replaced")
	}
	f.drop()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

func TestExitCodesTellAScriptWhatToDo(t *testing.T) {
	for name, story := range map[string]struct {
		err  error
		want int
	}{
		"denied":                {&client.Error{Status: 403, Code: client.CodeAccessDenied}, exitRefused},
		"an ID token refused":   {&client.Error{Status: 400, Code: client.CodeInvalidGrant}, exitRefused},
		"no such task":          {fmt.Errorf("asking: %w", &client.Error{Status: 400, Code: client.CodeInvalidScope}), exitRefused},
		"too many":              {&client.Error{Status: 429, Code: client.CodeSlowDown}, exitNoAnswer},
		"starting":              {&client.Error{Status: 503, Code: client.CodeUnavailable}, exitNoAnswer},
		"a proxy's 502":         {&client.Error{Status: 502}, exitNoAnswer},
		"some other site":       {&client.Error{Status: 404}, exitFailed},
		"not there":             {&client.Unreachable{Exchange: ours, Err: io.EOF}, exitNoAnswer},
		"not an exchange":       {&client.BadAnswer{Status: 200, Why: "x"}, exitFailed},
		"something here":        {&trouble{"x", "y"}, exitFailed},
		"a command line":        {misuse("x"), exitUsage},
		"what was said already": {exit(exitOver), exitOver},
		"one token, no answer":  {(&fixed{}).usedUp(&client.Unreachable{Exchange: ours, Arrived: true, Err: io.EOF}), exitNoAnswer},
		"one token, used":       {(&fixed{}).usedUp(nil), exitFailed},
	} {
		r := newRig(t, willing)
		r.speakAs(&r.log, false)
		if got := r.ended(story.err, explain); !errors.Is(got, exit(story.want)) {
			t.Errorf("%s: %v, want exit code %d", name, got, story.want)
		}
	}
	if err := newRig(t, willing).ended(nil, explain); err != nil {
		t.Errorf("nothing went wrong, and %v", err)
	}
}

// FuzzLeaseToken: what is taken for a lease token is one word, and errors say nothing of
// what they read.
func FuzzLeaseToken(f *testing.F) {
	for _, text := range []string{"skl_handle\n", `{"lease_token":"skl_handle"}`, `{"lease_token":"a b"}`, `{"lease_token":{}}`, "{", "", "\x00", "a b", "skl_\u00e4"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		token, err := readLeaseToken(text)
		if (err == nil) == token.Empty() {
			t.Fatalf("token empty: %v, error: %v", token.Empty(), err)
		}
		if err == nil && (strings.ContainsFunc(token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) || len(token.Reveal()) > maxLeaseToken) {
			t.Errorf("%q was taken for a token", token.Reveal())
		}
		if words := strings.TrimSpace(string(text)); err != nil && len(words) > 24 && strings.Contains(err.Error(), words) {
			t.Errorf("the error repeats it: %v", err)
		}
	})
}

// Whatever the program takes stands in each script and on the page: they are made of it.
func TestNothingIsMissingFromCompletionAndManual(t *testing.T) {
	all := theGrammar()
	if len(all) != len(commands()) || !slices.Contains(names(all), "exec") {
		t.Fatalf("%v", names(all))
	}
	bash, zsh, fish, page := bashCompletion(all), zshCompletion(all), fishCompletion(all), manual(all)
	for _, g := range all {
		for where, text := range map[string][2]string{
			"bash": {bash, "    " + g.name + ")\n"}, "zsh": {zsh, "    " + g.name + ")\n"},
			"fish": {fish, "-n __fish_use_subcommand -a " + g.name + " -d "}, "man": {page, ".SS \"stepkey " + g.name + "\"\n"},
		} {
			if !strings.Contains(text[0], text[1]) {
				t.Errorf("%s does not know %s", where, g.name)
			}
		}
		for _, o := range g.flags {
			for where, text := range map[string][2]string{
				"bash": {bash, "--" + o.name}, "zsh": {zsh, "*--" + o.name}, "fish": {fish, "-l " + o.name + " "}, "man": {page, roffEscape("--" + o.name)},
			} {
				if !strings.Contains(text[0], text[1]) {
					t.Errorf("%s does not know %s --%s", where, g.name, o.name)
				}
			}
			if o.usage == "" || !strings.HasSuffix(o.usage, ".") {
				t.Errorf("%s --%s: the usage %q is not a sentence", g.name, o.name, o.usage)
			}
		}
	}
}

// A line of the page is a request only where we made it one.
func TestNoTextBecomesARoffRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{".so /etc/passwd", "'br", "text", "  indented", "", `\fB`, "Examples", "a-b"})
		text := strings.Join(rapid.SliceOfN(piece, 1, 8).Draw(t, "lines"), "\n")
		var b strings.Builder
		roffText(&b, text)
		open := 0
		for line := range strings.Lines(b.String()) {
			switch line = strings.TrimSuffix(line, "\n"); {
			case line == ".nf":
				open++
			case line == ".fi":
				open--
			case line == ".PP":
			case strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") || strings.Contains(line, `\f`):
				t.Fatalf("%q", line)
			}
			if open < 0 || open > 1 {
				t.Fatalf("%q", b.String())
			}
		}
		if open != 0 {
			t.Fatalf("%q stays unfilled", b.String())
		}
	})
}
