package runnersim

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// journal is the job's log. Nothing enters it before the masks were applied.
type journal struct {
	masks *masks
	file  *os.File
	live  io.Writer
	all   strings.Builder
	step  strings.Builder
}

func openJournal(path string, live io.Writer) (*journal, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("opening the job's log: %w", err)
	}
	return &journal{masks: newMasks(), file: file, live: live}, nil
}

func (l *journal) printf(format string, args ...any) {
	text := l.masks.hide(fmt.Sprintf(format, args...)) + "\n"
	l.all.WriteString(text)
	l.step.WriteString(text)
	// A log that cannot be written must not end the job; Result.Log has it all.
	_, _ = io.WriteString(l.file, text)
	_, _ = io.WriteString(l.live, text)
}

func (l *journal) text() string { return l.all.String() }

// takeStep returns what was printed since it was last called.
func (l *journal) takeStep() string {
	text := l.step.String()
	l.step.Reset()
	return text
}

func (l *journal) close() { _ = l.file.Close() }

// console reads a step's output, obeys its workflow commands and prints the rest.
type console struct {
	log     *journal
	step    *Step
	buffer  []byte
	stopped string // the token of ::stop-commands::
	refused bool   // a command that fails the step was used
}

// maxLine bounds what one line may hold; longer ones are printed in pieces.
const maxLine = 1 << 20

func (c *console) Write(p []byte) (int, error) {
	c.buffer = append(c.buffer, p...)
	for {
		i := bytes.IndexByte(c.buffer, '\n')
		if i < 0 {
			break
		}
		c.line(string(c.buffer[:i]))
		c.buffer = c.buffer[i+1:]
	}
	if len(c.buffer) > maxLine {
		c.flush()
	}
	return len(p), nil
}

func (c *console) flush() {
	if len(c.buffer) > 0 {
		c.line(string(c.buffer))
		c.buffer = nil
	}
}

func (c *console) line(text string) {
	text = strings.TrimSuffix(text, "\r")
	cmd, ok := parseCommand(text)
	switch {
	case c.stopped != "":
		if ok && cmd.name == c.stopped {
			c.stopped = ""
			return
		}
		c.log.printf("%s", text)
	case ok:
		c.obey(cmd, text)
	default:
		c.log.printf("%s", text)
	}
}

func (c *console) obey(cmd command, text string) {
	switch cmd.name {
	case "add-mask":
		if strings.TrimSpace(cmd.data) == "" {
			c.annotate("warning", "", "Can't add secret mask for empty string in ##[add-mask] command.")
			return
		}
		c.log.masks.add(cmd.data)
	case "error", "warning", "notice":
		c.annotate(cmd.name, cmd.properties["title"], cmd.data)
	case "debug", "group":
		c.log.printf("##[%s]%s", cmd.name, cmd.data)
	case "endgroup":
		c.log.printf("##[endgroup]")
	case "stop-commands":
		c.stopped = strings.ToLower(cmd.data)
	case "echo":
	case "set-output", "save-state", "set-env", "add-path", "add-matcher", "remove-matcher":
		c.refused = true
		c.annotate("error", "", fmt.Sprintf("The command ::%s:: is deprecated or not supported by this runner; use the file commands.", cmd.name))
	default:
		c.log.printf("%s", text)
	}
}

func (c *console) annotate(level, title, message string) {
	c.log.printf("##[%s]%s", level, message)
	c.step.Annotations = append(c.step.Annotations, Annotation{
		Level: level, Title: c.log.masks.hide(title), Message: c.log.masks.hide(message),
	})
}
