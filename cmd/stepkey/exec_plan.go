package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// A fileWish is one --file: the variable is to hold the path of a file, and that the
// value of a credential.
type fileWish struct {
	variable, value string
	task            string // whose value; empty: of whichever task has one of that name
}

func readFileWishes(given []string, tasks []string) ([]fileWish, error) {
	var wishes []fileWish
	for _, text := range given {
		variable, value, found := strings.Cut(text, "=")
		value, task, only := strings.Cut(value, "@")
		taken := slices.ContainsFunc(wishes, func(w fileWish) bool { return w.variable == variable })
		switch {
		case !found || !isName(variable, "") || !isName(value, "-") || (only && task == ""):
			return nil, &trouble{"bad file", "--file takes VAR=VALUE, as in --file SSH_KEY=key, or VAR=VALUE@TASK where several tasks have a value of that name"}
		case steers(variable):
			return nil, &trouble{"bad file", "--file must not set " + variable + ", which decides what programs run or how the job goes on: take a name of your own"}
		case taken:
			return nil, &trouble{"bad file", "--file gives " + variable + " a second time"}
		case only && !slices.Contains(tasks, task):
			return nil, &trouble{"bad file", fmt.Sprintf("--file names the task %s, which is not asked for", task)}
		}
		wishes = append(wishes, fileWish{variable, value, task})
	}
	return wishes, nil
}

// of is the grant that has the wished value.
func (w fileWish) of(grants []*client.Grant) (*client.Grant, error) {
	var has *client.Grant
	var names []string
	for _, g := range grants {
		if w.task != "" && g.Task != w.task {
			continue
		}
		names = append(names, slices.Sorted(maps.Keys(g.Values))...)
		if _, ok := g.Values[w.value]; !ok {
			continue
		}
		if has != nil {
			return nil, &trouble{"bad file", fmt.Sprintf("%s and %s both have a value %s: write --file %s=%s@TASK", has.Task, g.Task, w.value, w.variable, w.value)}
		}
		has = g
	}
	if has == nil {
		return nil, &trouble{"bad file", fmt.Sprintf("there is no value %s for --file %s; there is: %s", w.value, w.variable, strings.Join(names, ", "))}
	}
	return has, nil
}

// A handover is what the command gets: variables, and files that variables point to.
type handover struct {
	variables map[string]string // in plain: they go to the command and nowhere else
	folder    *folder           // holds the files; nil: there are none
}

// handOut lays out the grants' variables and files. On an error there are no files left.
func handOut(grants []*client.Grant, wishes []fileWish, in storage) (h handover, err error) {
	h.variables = map[string]string{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.drop())
		}
	}()
	hidden := map[*client.Grant][]string{} // values that are in files instead
	for _, wish := range wishes {
		g, err := wish.of(grants)
		if err != nil {
			return h, err
		}
		path, err := h.write(wish, g.Values[wish.value], in)
		if err != nil {
			return h, err
		}
		h.variables[wish.variable] = path
		hidden[g] = append(hidden[g], g.Values[wish.value].Reveal())
	}
	from := map[string]string{} // variable -> task
	for _, g := range grants {
		if len(g.Env) == 0 && len(hidden[g]) == 0 {
			return h, unheard(g, len(grants) > 1)
		}
		for _, name := range slices.Sorted(maps.Keys(g.Env)) {
			value := g.Env[name]
			_, isFile := h.variables[name]
			switch {
			case !isName(name, "") || steers(name):
				return h, unfit("one of the credential's variables has a name that must not be set from outside")
			case strings.ContainsRune(value.Reveal(), 0):
				return h, unfit("the credential's variable " + name + " contains a NUL byte, which no environment can hold")
			case slices.Contains(hidden[g], value.Reveal()):
			case from[name] != "":
				return h, unfit(fmt.Sprintf("%s and %s both set the variable %s: run two commands, or have one in a file with --file", from[name], g.Task, name))
			case isFile:
				return h, unfit(fmt.Sprintf("--file sets the variable %s, and %s another value of it", name, g.Task))
			default:
				from[name] = g.Task
				h.variables[name] = value.Reveal()
			}
		}
	}
	return h, nil
}

// unheard refuses to run a command that would get nothing of a credential: all that its
// user would see is another program's "permission denied".
func unheard(g *client.Grant, ofSeveral bool) error {
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		variable := strings.ToUpper(strings.ReplaceAll(g.Kind+"_"+name, "-", "_"))
		if !isName(variable, "") || steers(variable) {
			variable = "VAR"
		}
		text := "--file " + variable + "=" + name
		if ofSeveral {
			text += "@" + g.Task
		}
		flags = append(flags, text)
	}
	return &trouble{"no variables", fmt.Sprintf("the command would get nothing of the credential of %s, which has values and no variables. Have those that it needs in files, by what fits of %s", g.Task, strings.Join(flags, " "))}
}

// write puts a value into a file of its own, which its owner alone can read.
func (h *handover) write(wish fileWish, value secret.String, in storage) (string, error) {
	if h.folder == nil {
		made, err := in.make()
		if err != nil {
			return "", err
		}
		h.folder = made
	}
	path := filepath.Join(h.folder.path, wish.variable)
	if err := os.WriteFile(path, []byte(value.Reveal()), 0o600); err != nil {
		return "", fmt.Errorf("writing the file for %s: %w", wish.variable, errors.Unwrap(err))
	}
	return path, nil
}

// drop removes the files.
func (h *handover) drop() error {
	if h.folder == nil {
		return nil
	}
	if err := h.folder.remove(); err != nil {
		return err
	}
	h.folder = nil
	return nil
}

// idTokenVariables give whoever has them new ID tokens, or are one. Of the last two, the
// CI's own programs take what stands in them for that.
var idTokenVariables = []string{
	"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", tokenVariable, tokenFileVariable, leaseVariable,
	"CIRCLE_OIDC_TOKEN", "CIRCLE_OIDC_TOKEN_V2", "BUILDKITE_AGENT_ACCESS_TOKEN",
}

// withheld are the variables that the command does not get: with them it could ask for
// more than it is given.
func withheld(chosen source) []string {
	if chosen == nil {
		return idTokenVariables
	}
	if kind, name, found := strings.Cut(chosen.String(), ":"); found && (kind == "env" || kind == "gitlab") {
		return append(slices.Clone(idTokenVariables), name)
	}
	return idTokenVariables
}

// environment is environ without some variables, and with others set.
func environment(environ []string, without []string, set map[string]string) []string {
	out := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, replaced := set[name]
		return replaced || slices.Contains(without, name)
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, name+"="+set[name])
	}
	return out
}
