package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The stories in testdata/stepkey run the real main in processes of their own,
// against an exchange and an ID-token service on loopback that live in this one.

func TestMain(m *testing.M) {
	if strings.HasSuffix(os.Args[0], ".test") {
		heedSignals()
	}
	start := func() {
		os.Exit(run(os.Args, &step{
			runner: newRunner(os.Getenv, os.Stdout), http: &http.Client{}, now: storyTime, waits: storyWaits(), inMemory: storyMemory,
		}, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"stepkey": start, "main": start, "post": start, "ci-program": ciProgram})
}

// heedSignals has what the tests start take signals as usual, where the tests themselves
// run with some of them ignored: started by nohup, or in the background of a shell. What
// is ignored stays ignored in the program, as it should, and in all that is started.
func heedSignals() {
	for _, sig := range stopSignals {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// storyBegins is when main runs.
const storyBegins = "2026-11-23T15:00:00Z"

// storyTime stands still, where the story's variable NOW says.
func storyTime() time.Time {
	now, err := time.Parse(time.RFC3339, os.Getenv("NOW"))
	if err != nil {
		panic(err)
	}
	return now
}

// storyWaits differ from the standard ones only in what a story would wait for in vain.
func storyWaits() waits {
	w := standardWaits()
	w.firstPause, w.endAll = time.Millisecond, 2*time.Second
	return w
}

// storyMemory is a machine's that has folders in memory or, if DISKS_ONLY is set, has none.
func storyMemory(path string) bool { return os.Getenv("DISKS_ONLY") == "" && inMemory(path) }

func TestStories(t *testing.T) {
	for _, program := range []string{"bash", "fish", "groff", "zsh"} { // cli-shells leaves out what is not there
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") != "" {
			t.Errorf("the stories need %s: %v", program, err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/stepkey",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               beginStory,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exchange":  exchangeCommand,
			"idtoken":   idTokenCommand,
			"mint":      mintCommand,
			"program":   programCommand,
			"exits":     exitsCommand,
			"mode":      modeCommand,
			"elsewhere": func(ts *testscript.TestScript, _ bool, _ []string) { elsewhere(ts) },
			"runner":    runnerCommand,
			"living":    livingCommand,
			"until":     untilCommand,
			"memory":    memoryCommand,
			"signal":    signalCommand,
		},
	})
}

type worldKey struct{}

func beginStory(env *testscript.Env) error {
	w := newWorld()
	env.Defer(w.close)
	env.Values[worldKey{}] = w
	for _, file := range []string{".state", ".output", ".env"} { // as the runner does
		if err := os.WriteFile(filepath.Join(env.WorkDir, file), nil, 0o600); err != nil {
			return err
		}
	}
	env.Vars = append(env.Vars,
		"INPUT_EXCHANGE="+w.server.URL, "INPUT_TASK=publish-release",
		"ACTIONS_ID_TOKEN_REQUEST_URL="+w.server.URL+"/idtoken?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token",
		"GITHUB_STATE="+env.WorkDir+"/.state", "GITHUB_OUTPUT="+env.WorkDir+"/.output",
		"GITHUB_ENV="+env.WorkDir+"/.env", "GITHUB_STEP_SUMMARY="+env.WorkDir+"/summary.md",
		"GITHUB_EVENT_NAME=push", "NOW="+storyBegins,
		"GORACE=atexit_sleep_ms=0", // else each process of a race build lingers for a second
	)
	return nil
}

func world(ts *testscript.TestScript) *theWorld { return ts.Value(worldKey{}).(*theWorld) }

// exchangeCommand scripts the exchange:
//
//	exchange token|revoke STATUS FILE ["Header: value"]   the next answer of that endpoint
//	exchange token|revoke drop|hang                       hang up, or wait until the caller does
//	exchange await token|revoke                           until such a request is being answered
//	exchange forget                                       the requests that came before, for await
//	exchange down, exchange up                            hang up on everyone, and no more
//	exchange log                                          what was asked since the last time, to stdout
//	exchange audiences                                    for whom ID tokens were asked for since the last time
func exchangeCommand(ts *testscript.TestScript, neg bool, args []string) {
	w := world(ts)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: exchange token|revoke|await|down|log")
	case args[0] == "down":
		w.shut.Store(true)
		w.server.CloseClientConnections()
	case args[0] == "forget":
		for _, arrived := range w.arrivals {
			for len(arrived) > 0 {
				<-arrived
			}
		}
	case args[0] == "up":
		w.shut.Store(false)
	case args[0] == "log":
		_, _ = ts.Stdout().Write([]byte(w.takeLog()))
	case args[0] == "audiences":
		_, _ = ts.Stdout().Write([]byte(w.takeMinted()))
	case args[0] == "await" && len(args) == 2:
		select {
		case <-w.arrivals["/"+args[1]]:
		case <-time.After(20 * time.Second):
			ts.Fatalf("no %s request came", args[1])
		}
	case len(args) == 2:
		w.script("/"+args[0], scripted{special: args[1]})
	case len(args) >= 3:
		s := scripted{body: ts.ReadFile(args[2])}
		if _, err := fmt.Sscan(args[1], &s.status); err != nil {
			ts.Fatalf("%q is not a status", args[1])
		}
		for _, line := range args[3:] {
			name, value, _ := strings.Cut(line, ": ")
			s.header = append(s.header, [2]string{name, value})
		}
		w.script("/"+args[0], s)
	default:
		ts.Fatalf("exchange %q?", args)
	}
}

// idTokenCommand scripts the ID-token service: idtoken STATUS.
func idTokenCommand(ts *testscript.TestScript, neg bool, args []string) {
	var s scripted
	if neg || len(args) != 1 {
		ts.Fatalf("usage: idtoken STATUS")
	}
	if _, err := fmt.Sscan(args[0], &s.status); err != nil {
		ts.Fatalf("%q is not a status", args[0])
	}
	world(ts).script("/idtoken", s)
}

// runnerCommand does what the runner does around a step:
//
//	runner input NAME FILE    gives the step an input of several lines
//	runner state              sets STATE_ variables for post
//	runner outputs|env|state  and prints what the command file holds
//	runner log                prints the last command's log as people see it: masked, without the masking
//	runner hides-in-stderr SECRET  the same of what the last command said on stderr
//	runner masks SECRET            fails if the last command did not have it masked
//	runner hides SECRET FILE… fails if the log as people see it, or a file, shows the secret
func runnerCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: runner input|state|outputs|env|log|hides")
	}
	files := map[string]string{"state": ".state", "outputs": ".output", "env": ".env"}
	switch name := args[0]; name {
	case "input":
		ts.Setenv("INPUT_"+strings.ToUpper(args[1]), ts.ReadFile(args[2]))
	case "log":
		_, _ = ts.Stdout().Write([]byte(strings.ReplaceAll(masked(ts), world(ts).server.URL, "EXCHANGE")))
	case "hides-in-stderr":
		if seen := asSeen(ts.ReadFile("stderr")); strings.Contains(seen, args[1]) {
			ts.Fatalf("the log shows %s:\n%s", args[1], seen)
		}
	case "masks": // on either stream, of the last command
		if mask := "::add-mask::" + args[1] + "\n"; !strings.Contains(ts.ReadFile("stderr")+ts.ReadFile("stdout"), mask) {
			ts.Fatalf("the runner was not told to mask %s", args[1])
		}
	case "hides":
		if strings.Contains(masked(ts), args[1]) {
			ts.Fatalf("the log shows %s:\n%s", args[1], masked(ts))
		}
		for _, file := range args[2:] {
			if strings.Contains(ts.ReadFile(file), args[1]) {
				ts.Fatalf("%s shows %s", file, args[1])
			}
		}
	default:
		entries, err := readCommandFile(ts.ReadFile(files[name]))
		ts.Check(err)
		out := ts.Stdout() // asked for even if nothing is written: that empties it
		for _, entry := range entries {
			if name == "state" {
				ts.Setenv("STATE_"+entry[0], entry[1])
			}
			_, _ = fmt.Fprintf(out, "%s=%s\n", entry[0], strings.ReplaceAll(entry[1], world(ts).server.URL, "EXCHANGE"))
		}
	}
}

func masked(ts *testscript.TestScript) string { return asSeen(ts.ReadFile("stdout")) }

// asSeen is a log as the runner shows it: each mask hides from its line on.
func asSeen(log string) string {
	var seen strings.Builder
	var masks []string
	unescape := strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%")
	for line := range strings.Lines(log) {
		if mask, ok := strings.CutPrefix(line, "::add-mask::"); ok {
			masks = append(masks, unescape.Replace(strings.TrimSuffix(mask, "\n")))
			slices.SortFunc(masks, func(a, b string) int { return len(b) - len(a) })
			continue
		}
		for _, mask := range masks {
			line = strings.ReplaceAll(line, mask, "***")
		}
		seen.WriteString(line)
	}
	return seen.String()
}

// readCommandFile reads name=value and name<<delimiter entries the way
// actions/runner's FileCommandManager does; later entries win.
func readCommandFile(text string) ([][2]string, error) {
	var names []string
	values := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" {
			continue
		}
		name, value, plain := strings.Cut(lines[i], "=")
		if head, end, heredoc := strings.Cut(lines[i], "<<"); heredoc && (!plain || len(head) < len(name)) {
			name = head
			from := i + 1
			for i++; i < len(lines) && lines[i] != end; i++ {
			}
			if i == len(lines) {
				return nil, fmt.Errorf("the value of %s does not end", name)
			}
			value = strings.Join(lines[from:i], "\n")
		} else if !plain {
			return nil, fmt.Errorf("line %d is no entry: %q", i+1, lines[i])
		}
		if _, known := values[name]; !known {
			names = append(names, name)
		}
		values[name] = value
	}
	entries := make([][2]string, len(names))
	for i, name := range names {
		entries[i] = [2]string{name, values[name]}
	}
	return entries, nil
}

// signalCommand sends a signal to the one background process: signal TERM.
func signalCommand(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH, "TSTP": syscall.SIGTSTP, "CONT": syscall.SIGCONT,
	}
	running := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(running) != 1 {
		ts.Fatalf("usage: signal INT|TERM|…, with one process in the background")
	}
	ts.Check(running[0].Process.Signal(signals[args[0]]))
}
