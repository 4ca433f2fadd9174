package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sethvargo/go-githubactions"
	"golang.org/x/sys/unix"
)

// A voice is how a command speaks to people: on stderr alone, since stdout belongs to
// programs. Safe for concurrent use.
type voice struct {
	out    io.Writer
	log    func() (io.Writer, error) // where a runner reads what to mask; opened once
	quiet  bool
	github bool // a runner reads along
	tty    bool // a line can be drawn again
	titled bool // and the window has a title

	mu    sync.Mutex
	drawn bool // the line that the cursor stands in is to be replaced
	title string
	told  bool // that nothing is masked
}

// speakAs makes s speak as a command and no longer as an action's half.
func (s *step) speakAs(out io.Writer, quiet bool) {
	v := &voice{out: out, quiet: quiet, github: s.getenv("GITHUB_ACTIONS") == "true"}
	v.log = sync.OnceValues(func() (io.Writer, error) { return stepLog(s.getenv("GITHUB_OUTPUT")) })
	if f, ok := out.(*os.File); ok && isTerminal(f) && s.getenv("TERM") != "dumb" {
		v.tty = true
		v.titled = s.getenv("TERM") != "" && s.getenv("TERM") != "linux" // the console has none
	}
	s.voice = v
	s.gh = githubactions.New(githubactions.WithGetenv(s.getenv), githubactions.WithWriter(out))
}

// isTerminal: whatever has a size in rows and columns.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// say writes one line, which --quiet leaves out.
func (v *voice) say(text string) {
	if !v.quiet {
		v.insist(text)
	}
}

// insist writes one line in any case. That it cannot be written changes nothing: there
// is nobody else to tell.
func (v *voice) insist(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _ = io.WriteString(v.out, v.begin()+"stepkey: "+oneLine(text)+"\n")
}

// draw writes a line that the next one replaces. Where lines cannot be drawn again it
// does nothing.
func (v *voice) draw(text string) {
	if v.quiet || !v.tty {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	line := v.begin() + "stepkey: " + oneLine(text)
	v.drawn = true
	_, _ = io.WriteString(v.out, line)
}

// begin is what clears a drawn line.
func (v *voice) begin() string {
	if !v.drawn {
		return ""
	}
	v.drawn = false
	return "\r\x1b[K"
}

// headline shows text in the window's title: while another program has the terminal's
// lines, this is the one place that does not disturb it. Empty brings back the title that
// was there before.
func (v *voice) headline(text string) {
	if v.quiet || !v.titled {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case text == v.title:
	case text == "":
		_, _ = io.WriteString(v.out, "\x1b[23;2t") // XTWINOPS: pop
	case v.title == "":
		_, _ = io.WriteString(v.out, "\x1b[22;2t\x1b]2;"+oneLine(text)+"\x1b\\") // push, and set by OSC 2
	default:
		_, _ = io.WriteString(v.out, "\x1b]2;"+oneLine(text)+"\x1b\\")
	}
	v.title = text
}

// mask has a runner hide value in what it logs from here on. Without a runner there is
// nothing to tell, and nothing may be printed. A runner that is out of reach is told of
// once: the value goes only to the command, and masks are the second line of defence.
func (v *voice) mask(value string) error {
	if !v.github {
		return nil
	}
	log, err := v.log()
	if err == nil {
		err = guarded(func() { githubactions.New(githubactions.WithWriter(log)).AddMask(value) })
	}
	if err == nil {
		return nil
	}
	v.mu.Lock()
	first := !v.told
	v.told = true
	v.mu.Unlock()
	if first {
		v.insist(fmt.Sprintf("warning: this job's log does not mask the credential, should a command print it: %v", err))
	}
	return nil
}

// oneLine keeps text of others from moving the cursor, and from being read as a
// runner's command.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, inert("%s", text))
}

// left is a time to come, in words as short as a clock's.
func left(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d <= 0:
		return "no time left"
	case d < time.Hour:
		return fmt.Sprintf("%d:%02d left", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d:%02d left", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}
