package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func manCommand() command {
	return command{
		name: "man", summary: "Print the manual page.",
		about: "Examples\n  stepkey man | man -l -\n  stepkey man >/usr/local/share/man/man1/stepkey.1",
		define: func(*flag.FlagSet) action {
			return func(_ context.Context, s *step, args []string) error {
				return s.ended(writeManual(os.Stdout, args), explain)
			}
		},
	}
}

func writeManual(w io.Writer, args []string) error {
	if len(args) > 0 {
		return misuse("man takes nothing")
	}
	if _, err := io.WriteString(w, manual(theGrammar())); err != nil {
		return fmt.Errorf("writing the manual page: %w", err)
	}
	return nil
}

// variables are those that people set; a runner's own are not among them.
var variables = [][2]string{
	{"STEPKEY_EXCHANGE", "The exchange's URL, where --exchange is not given."},
	{leaseVariable, "The lease token, for revoke and status."},
	{tokenVariable, "An ID token, good for one request."},
	{tokenFileVariable, "A file with an ID token, read anew for each request."},
	{"HTTPS_PROXY, NO_PROXY", "The proxy, and the hosts that are reached without it."},
	{"SSL_CERT_FILE, SSL_CERT_DIR", "Certificate authorities to trust in place of the system's."},
	{"RUNNER_DEBUG", "1 shows details in a runner's log, without secrets."},
}

// manual is the page in roff's man macros. It has no date, so that one version has one
// page.
func manual(all []grammar) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH STEPKEY 1 \"\" %s \"User Commands\"\n", roffArgument("stepkey "+version()))
	b.WriteString(".SH NAME\nstepkey \\- a credential for one task, for as long as the task takes\n.SH SYNOPSIS\n.nf\n")
	for _, g := range all {
		b.WriteString(roffLine(strings.TrimSpace("stepkey "+g.name+" "+flagsWord(g)+g.args)) + "\n")
	}
	b.WriteString(".fi\n.SH DESCRIPTION\n")
	roffText(&b, "stepkey asks an exchange for the credential of a task, in the name of the job that it runs in, and gives it back. The job proves itself with an ID token of its CI; nothing is stored.")
	b.WriteString(".SH COMMANDS\n")
	for _, g := range all {
		fmt.Fprintf(&b, ".SS %s\n", roffArgument("stepkey "+g.name))
		roffText(&b, g.summary)
		if g.about != "" {
			b.WriteString(".PP\n")
			roffText(&b, g.about)
		}
		for _, o := range g.flags {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roffEscape("--"+o.name))
			if o.value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roffEscape(o.value))
			}
			b.WriteString("\n" + roffLine(o.usage) + "\n")
		}
	}
	b.WriteString(".SH ID TOKENS\n")
	roffText(&b, "The source of the ID token is what --id-token names. Without it, it is what the environment shows: first what was set for stepkey by name, then the CI that runs the job, then the machine. Where two of one kind are found, neither is taken.")
	for i, kind := range sourceKinds {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roffEscape(sourceForms()[i]), roffLine(strings.ToUpper(kind.about[:1])+kind.about[1:]+"."))
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, variable := range variables {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roffEscape(variable[0]), roffLine(variable[1]))
	}
	return b.String()
}

func flagsWord(g grammar) string {
	if len(g.flags) == 0 {
		return ""
	}
	return "[FLAG...] "
}

// roffText writes paragraphs. Lines that begin with a space, and what stands under a
// heading of one word, stay as they are.
func roffText(b *strings.Builder, text string) {
	filled := true
	fill := func(on bool) {
		if filled != on {
			b.WriteString(map[bool]string{true: ".fi\n", false: ".nf\n"}[on])
		}
		filled = on
	}
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" && filled:
			b.WriteString(".PP\n")
		case line == "":
			b.WriteString("\n")
		default:
			if asIs := strings.HasPrefix(line, " "); !asIs && !filled {
				fill(true)
				b.WriteString(".PP\n")
			} else {
				fill(!asIs)
			}
			b.WriteString(roffLine(line) + "\n")
		}
	}
	fill(true)
}

// roffLine keeps a line from being a request.
func roffLine(line string) string {
	line = roffEscape(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

func roffEscape(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
}

// roffArgument is one argument of a request.
func roffArgument(text string) string {
	return `"` + strings.ReplaceAll(roffEscape(text), `"`, `\(dq`) + `"`
}
