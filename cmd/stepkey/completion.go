package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

const completionAbout = `Examples
  bash   source <(stepkey completion bash)
         or keep it: stepkey completion bash >/etc/bash_completion.d/stepkey
  zsh    stepkey completion zsh >"${fpath[1]}/_stepkey"
  fish   stepkey completion fish >~/.config/fish/completions/stepkey.fish`

func completionCommand() command {
	return command{
		name: "completion", args: "bash|zsh|fish", summary: "Print a shell's completion of this program.", about: completionAbout,
		define: func(*flag.FlagSet) action {
			return func(_ context.Context, s *step, args []string) error {
				return s.ended(writeCompletion(os.Stdout, args), explain)
			}
		},
	}
}

func writeCompletion(w io.Writer, args []string) error {
	scripts := map[string]func([]grammar) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	if len(args) != 1 || scripts[args[0]] == nil {
		return misuse("name one shell: bash, zsh or fish")
	}
	if _, err := io.WriteString(w, scripts[args[0]](theGrammar())); err != nil {
		return fmt.Errorf("writing the completion: %w", err)
	}
	return nil
}

// grammar is a command with its flags read out, for what is written about it.
type grammar struct {
	command
	flags []option
}

// option is a flag. A value's name tells what it can be: FILE is one, a|b|c is one of
// these, SOURCE is a source of ID tokens, and no name is no value.
type option struct {
	name, value, usage string
}

func theGrammar() []grammar {
	var all []grammar
	for _, c := range commands() {
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.define(flags)
		g := grammar{command: c}
		flags.VisitAll(func(f *flag.Flag) {
			value, usage := flag.UnquoteUsage(f)
			g.flags = append(g.flags, option{name: f.Name, value: value, usage: usage})
		})
		all = append(all, g)
	}
	return all
}

// words are the values to choose from, if there is such a choice.
func (o option) words() []string {
	switch {
	case o.value == "SOURCE":
		words := make([]string, len(sourceKinds))
		for i, kind := range sourceKinds {
			words[i] = kind.kind
			if kind.place != "" && kind.usually == "" {
				words[i] += ":"
			}
		}
		return words
	case strings.Contains(o.value, "|"):
		return strings.Split(o.value, "|")
	}
	return nil
}

// runsCommand: what follows its flags is a command line of its own.
func (g grammar) runsCommand() bool { return strings.HasPrefix(g.args, "-- ") }

// choices are the arguments to choose from.
func (g grammar) choices() []string {
	if strings.Contains(g.args, "|") {
		return strings.Split(g.args, "|")
	}
	return nil
}

func bashCompletion(all []grammar) string {
	var b strings.Builder
	b.WriteString(`# bash completion of stepkey
_stepkey() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '` + strings.Join(names(all), " ") + ` help' -- "$word"))
        return
    fi
`)
	writeBashTail(&b, all)
	b.WriteString("    case $command in\n")
	for _, g := range all {
		fmt.Fprintf(&b, "    %s)\n        case $before in\n", g.name)
		var flags []string
		for _, o := range g.flags {
			flags = append(flags, "--"+o.name)
			switch {
			case o.value == "FILE":
				fmt.Fprintf(&b, "        --%s) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n", o.name)
			case o.words() != nil:
				fmt.Fprintf(&b, "        --%s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); return ;;\n", o.name, strings.Join(o.words(), " "))
			case o.value != "":
				fmt.Fprintf(&b, "        --%s) return ;;\n", o.name)
			}
		}
		fmt.Fprintf(&b, "        esac\n        COMPREPLY=($(compgen -W '%s' -- \"$word\"))\n        ;;\n", strings.Join(append(flags, append(g.choices(), "--help")...), " "))
	}
	b.WriteString("    esac\n}\ncomplete -F _stepkey stepkey\n")
	return b.String()
}

// writeBashTail completes the command line that some commands run.
func writeBashTail(b *strings.Builder, all []grammar) {
	var running []string
	for _, g := range all {
		if g.runsCommand() {
			running = append(running, g.name)
		}
	}
	if len(running) == 0 {
		return
	}
	fmt.Fprintf(b, `    case $command in
    %s)
        for ((i = 2; i < COMP_CWORD; i++)); do
            [[ ${COMP_WORDS[i]} == -- ]] || continue
            if ((COMP_CWORD == i + 1)); then
                COMPREPLY=($(compgen -c -- "$word"))
            else
                compopt -o filenames
                COMPREPLY=($(compgen -f -- "$word"))
            fi
            return
        done
        ;;
    esac
`, strings.Join(running, "|"))
}

func zshCompletion(all []grammar) string {
	var b strings.Builder
	b.WriteString("#compdef stepkey\n\n_stepkey() {\n    local -a commands\n    commands=(\n")
	for _, g := range all {
		fmt.Fprintf(&b, "        %s\n", shellQuoted(g.name+":"+zshText(g.summary)))
	}
	b.WriteString(`    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
`)
	for _, g := range all {
		fmt.Fprintf(&b, "    %s)\n        _arguments -S", g.name)
		for _, o := range g.flags {
			spec := "--" + o.name
			if o.value != "" {
				spec += "="
			}
			spec = "*" + spec + "[" + zshText(o.usage) + "]"
			switch {
			case o.value == "FILE":
				spec += ":file:_files"
			case o.words() != nil:
				spec += ":" + strings.ToLower(o.name) + ":(" + zshText(strings.Join(o.words(), " ")) + ")"
			case o.value != "":
				spec += ":" + zshText(o.value) + ": "
			}
			fmt.Fprintf(&b, " \\\n            %s", shellQuoted(spec))
		}
		if g.choices() != nil {
			fmt.Fprintf(&b, " \\\n            %s", shellQuoted("1: :("+strings.Join(g.choices(), " ")+")"))
		}
		if g.runsCommand() {
			fmt.Fprintf(&b, " \\\n            %s", shellQuoted("*::command:_normal"))
		}
		b.WriteString(" \\\n            '--help[Show help.]'\n        ;;\n")
	}
	b.WriteString("    esac\n}\n\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _stepkey \"$@\"\nelse\n    compdef _stepkey stepkey\nfi\n")
	return b.String()
}

// zshText keeps text from ending its place in a specification of _arguments.
func zshText(text string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, "[", `\[`, "]", `\]`).Replace(text)
}

func fishCompletion(all []grammar) string {
	var b strings.Builder
	b.WriteString("# fish completion of stepkey\ncomplete -c stepkey -f\n")
	for _, g := range all {
		fmt.Fprintf(&b, "complete -c stepkey -n __fish_use_subcommand -a %s -d %s\n", g.name, fishQuoted(g.summary))
	}
	for _, g := range all {
		when := fishQuoted("__fish_seen_subcommand_from " + g.name)
		for _, o := range g.flags {
			line := fmt.Sprintf("complete -c stepkey -n %s -l %s -d %s", when, o.name, fishQuoted(o.usage))
			switch {
			case o.value == "FILE":
				line += " -r -F"
			case o.words() != nil:
				line += " -x -a " + fishQuoted(strings.Join(o.words(), " "))
			case o.value != "":
				line += " -x"
			}
			b.WriteString(line + "\n")
		}
		if g.choices() != nil {
			fmt.Fprintf(&b, "complete -c stepkey -n %s -a %s\n", when, fishQuoted(strings.Join(g.choices(), " ")))
		}
		if g.runsCommand() {
			fmt.Fprintf(&b, "complete -c stepkey -n %s -a '(__fish_complete_subcommand --fcs-skip=3)'\n", fishQuoted("__fish_seen_subcommand_from "+g.name+"; and contains -- -- (commandline -opc)"))
		}
		fmt.Fprintf(&b, "complete -c stepkey -n %s -l help -d 'Show help.'\n", when)
	}
	return b.String()
}

func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

func names(all []grammar) []string {
	words := make([]string, len(all))
	for i, g := range all {
		words[i] = g.name
	}
	return words
}
