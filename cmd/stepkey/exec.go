package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// exitOurs is what exec exits with when Stepkey failed, not the command: what timeout(1)
// and env(1) use, out of the way of a command's own codes.
const exitOurs = 125

const execAbout = `The credential is in the command's environment and nowhere else: in the variables
that the exchange names for it (GH_TOKEN, PGPASSWORD, ...) or, with --file, in a
file that only you can read and that is gone when the command ends. When it ends,
however it ends, the credential is revoked before stepkey returns.

Files are in memory where the machine has a folder there, and a warning says where
it has none. If stepkey itself is killed by SIGKILL, they stay until your next
stepkey exec on that machine, which removes them.

The command has stepkey's stdin, stdout, stderr and terminal, and its signals: INT,
TERM, HUP, QUIT, USR1, USR2, WINCH, TSTP and CONT are passed on. After a second INT,
TERM, HUP or QUIT the command has one second. What it leaves running in its process
group is ended with it. It does not get the variables by which it could ask for
further ID tokens.

Exit codes
  the command's own; 128+N if signal N killed it
  125  Stepkey failed and the command did not run: its words are on stderr.
       With --strict also: the command succeeded, and the end of its credential
       could not be confirmed (without: a warning says until when it lives)
  126  the command cannot be executed
  127  the command was not found
  128+N  signal N came before the command ran

Examples
  stepkey exec --task publish-release -- gh release upload v1.2.3 widget.tgz
  stepkey exec --task deploy-web --file SSH_KEY=key --file SSH_CERTIFICATE=certificate \
      --file SSH_KNOWN_HOSTS=known_hosts -- ./deploy.sh
  stepkey exec --task read-db --task publish-release --ttl 5m -- make release`

type execFlags struct {
	askFlags
	tasks, files texts
	keepIDToken  bool
	strict       bool
}

func execCommand() command {
	return command{
		name: "exec", args: "-- COMMAND [ARG...]", failed: exitOurs, about: execAbout,
		summary: "Run a command that holds a task's credential, and give it back when it ends.",
		define: func(flags *flag.FlagSet) action {
			var f execFlags
			f.define(flags)
			flags.Var(&f.tasks, "task", "The `TASK` that the credential is for. Repeatable: each gets its own.")
			flags.Var(&f.files, "file", "`VAR=VALUE`: put this value of the credential into a file, and its path into the variable. No variable holds that value then. VAR=VALUE@TASK for one task of several. Repeatable.")
			flags.BoolVar(&f.keepIDToken, "keep-id-token", false, "Let the command ask for ID tokens of its own.")
			flags.BoolVar(&f.strict, "strict", false, "Exit with 125 if the command succeeded and the end of its credential was not confirmed.")
			return func(ctx context.Context, s *step, args []string) error { return s.exec(ctx, f, args) }
		},
	}
}

// An execution is one run of exec.
type execution struct {
	*step
	flags   execFlags
	command invocation
	asked   []inputs
	files   []fileWish
	signals *signals
	leases  []lease
}

// exec runs a command with credentials. The error is an exit with the command's code, or
// why it did not run.
func (s *step) exec(ctx context.Context, f execFlags, args []string) error {
	if err := beUnreadable(); err != nil {
		return err
	}
	e := &execution{step: s, flags: f}
	if err := e.plan(args); err != nil {
		return e.refused(err)
	}
	e.sweep()
	ctx, e.signals = listen(ctx)
	if err := e.askAll(ctx); err != nil {
		return e.refused(e.giveBack(ctx, err))
	}
	status, err := e.run(ctx)
	if err != nil {
		return e.refused(e.giveBack(ctx, err))
	}
	confirmed := e.endAll(ctx)
	e.signals.passOn(status)
	switch code := exitStatus(status); {
	case code != 0:
		return exit(code)
	case f.strict && !confirmed:
		return exit(exitOurs)
	}
	return nil
}

// refused says why the command did not run, and exits as a shell would.
func (e *execution) refused(why error) error {
	told, code := explain(why), exitOurs
	if blocked, ok := errors.AsType[*unstartable](why); ok {
		code = blocked.code
	}
	if e.signals != nil && e.signals.first() != 0 {
		code = exitSignal + int(e.signals.first())
	}
	e.fail(told.title, told.text)
	return exit(code)
}

// plan reads all that can be wrong before anyone is asked for anything.
func (e *execution) plan(args []string) (err error) {
	f := e.flags
	for i, task := range f.tasks {
		if slices.Contains(f.tasks[:i], task) {
			return &trouble{"command line", fmt.Sprintf("--task names %s twice: both credentials would be in the same variables", task)}
		}
	}
	switch {
	case len(f.tasks) == 0:
		return &trouble{"command line", "--task is missing: name the task that the credential is for, as in stepkey exec --task publish-release -- COMMAND"}
	case len(args) == 0:
		return &trouble{"command line", "there is no command to run: write it after --, as in stepkey exec --task " + f.tasks[0] + " -- COMMAND"}
	case strings.HasPrefix(args[0], "-"):
		return &trouble{"command line", fmt.Sprintf("%.64q is no command: flags of exec stand before --, the command after it", args[0])}
	}
	if e.command, err = findProgram(args, e.getenv("PATH")); err != nil {
		return err
	}
	if e.files, err = readFileWishes(f.files, f.tasks); err != nil {
		return err
	}
	for _, task := range f.tasks {
		in, err := f.asks(e.step, task)
		if err != nil {
			return err
		}
		e.asked = append(e.asked, in)
	}
	return nil
}

func (e *execution) storage() storage {
	return storage{places: storagePlaces(e.getenv), inMemory: e.inMemory}
}

// sweep removes the files of those that were killed before they could do it themselves.
func (e *execution) sweep() {
	removed, err := e.storage().sweep()
	for _, path := range removed {
		e.info("removed %s: credential files that a killed stepkey left", path)
	}
	if err != nil {
		e.warn("file left", err.Error())
	}
}

// askAll gets one credential after the other, and has each masked.
func (e *execution) askAll(signalled context.Context) error {
	ctx, cancel := context.WithTimeout(signalled, e.waits.mainAll)
	defer cancel()
	for _, in := range e.asked {
		e.voice.draw("asking for " + in.task + " ...")
		grant, err := e.ask(ctx, in)
		if err != nil {
			return err
		}
		e.leases = append(e.leases, lease{in: in, grant: grant})
		if err := e.maskGrant(grant); err != nil {
			return err
		}
	}
	if signalled.Err() != nil {
		return cancelled("before the command ran")
	}
	return nil
}

// run starts the command and comes back when it and its group are gone, and its files.
func (e *execution) run(signalled context.Context) (status syscall.WaitStatus, err error) {
	grants := make([]*client.Grant, len(e.leases))
	for i, l := range e.leases {
		grants[i] = l.grant
	}
	given, err := handOut(grants, e.files, e.storage())
	if err != nil {
		return 0, err
	}
	defer func() {
		if dropErr := given.drop(); dropErr != nil {
			e.warn("file left", dropErr.Error())
		}
	}()
	if given.folder != nil && given.folder.onDisk {
		e.warn("files on a disk", "the credential's files are on a disk, in "+given.folder.path+": no folder in memory can be written to here. They are removed when the command ends, but a disk may keep what was on it. Give this machine or container a tmpfs, and name it in XDG_RUNTIME_DIR")
	}
	for _, l := range e.leases {
		e.say(l)
	}
	if signalled.Err() != nil {
		return 0, cancelled("before the command ran")
	}
	var without []string
	if !e.flags.keepIDToken {
		without = withheld(e.source)
	}
	adopt()
	tty := openTerminal()
	front := tty
	if tty != nil && (!tty.wants || !tty.ours()) {
		front = nil
	}
	e.signals.jobControl()
	c, err := startChild(e.command, environment(os.Environ(), without, given.variables), front)
	if err != nil {
		return 0, err
	}
	if front != nil {
		tty.given = true
	}
	e.signals.started()
	noCore()
	last := e.supervise(c, tty)
	if err := given.drop(); err != nil { // before all else: what the command left running may read
		e.warn("file left", err.Error())
	}
	e.signals.atKeyboard = tty != nil && tty.given
	tty.takeBack()
	return c.endGroup(last, e.waits.groupEnd)
}

// say tells of a credential that the command gets.
func (e *execution) say(l lease) {
	until := "until " + moment(l.grant.EndsAt)
	if e.voice.tty {
		until = left(l.grant.EndsAt.Sub(e.now()))
	}
	how := ""
	if !l.grant.Revocable {
		how = "; it cannot be revoked and expires at " + moment(l.grant.DiesAt)
	}
	e.info("%s: %s, %s%s (lease %s)", l.grant.Task, l.grant.Granted, until, how, l.grant.LeaseID)
}

// noCore has the kernel write no core dump of this process. The command, which is running
// already, keeps the limit it has.
func noCore() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
}

// supervise passes signals on until the command is gone.
func (e *execution) supervise(c *child, tty *terminal) change {
	var kill <-chan time.Time
	over := make(chan lease, len(e.leases))
	for _, l := range e.leases {
		timer := time.AfterFunc(l.grant.EndsAt.Sub(e.now()), func() { over <- l })
		defer timer.Stop()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	e.headline(tty)
	defer e.voice.headline("")
	for {
		select {
		case ch := <-c.changes:
			if !ch.stopped() {
				return ch
			}
			if e.signals.stops > 0 { // it is to end, not to stop
				c.signal(syscall.SIGCONT)
				continue
			}
			e.voice.headline("")
			for _, sig := range tty.pause(c, ch.status.StopSignal(), e.signals.all) {
				e.signals.forward(sig, c, tty)
			}
			e.headline(tty)
		case sig := <-e.signals.all:
			e.signals.forward(sig, c, tty)
			e.headline(tty)
			if e.signals.stops > 1 && kill == nil {
				last := time.NewTimer(e.waits.killAfter)
				defer last.Stop()
				kill = last.C
			}
		case <-kill:
			c.signal(syscall.SIGKILL)
		case l := <-over:
			e.warn("credential ended", fmt.Sprintf("the credential of %s has ended: its deadline was %s. The command goes on without it", l.grant.Task, moment(l.grant.EndsAt)))
		case <-tick.C:
			e.headline(tty)
		}
	}
}

// headline shows how long the first credential that ends will last. In the background
// the title is somebody else's.
func (e *execution) headline(tty *terminal) {
	if tty != nil && !tty.given && !tty.ours() {
		e.voice.headline("")
		return
	}
	first := slices.MinFunc(e.leases, func(a, b lease) int { return a.grant.EndsAt.Compare(b.grant.EndsAt) })
	e.voice.headline(first.grant.Task + " " + left(first.grant.EndsAt.Sub(e.now())))
}
