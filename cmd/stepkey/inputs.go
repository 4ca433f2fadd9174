package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// inputs are the action's, read and checked.
type inputs struct {
	exchange  *client.Client
	task      string
	ttl       time.Duration
	values    map[string]string // the task's own inputs
	audience  string
	exportEnv bool
	summary   bool
}

// inputNames are those of action.yml.
var inputNames = []string{"audience", "exchange", "export-env", "inputs", "lease", "summary", "task", "ttl"}

// A stray is an input that this action does not have, and that looks like one it has.
// The runner passes it on all the same, with a warning that names all there are.
type stray struct{ name, near string }

func (s stray) text() string {
	return fmt.Sprintf("the input `%s` is none of this action's; did you mean `%s`?", s.name, s.near)
}

func strays(environ []string) (all []stray) {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		name, isInput := strings.CutPrefix(name, "INPUT_")
		name = strings.ToLower(name)
		if !isInput || value == "" || slices.Contains(inputNames, name) || !isName(name, "-") {
			continue
		}
		if near := nearest(strings.ReplaceAll(name, "_", "-"), inputNames); near != "" {
			all = append(all, stray{name, near})
		}
	}
	slices.SortFunc(all, func(a, b stray) int { return strings.Compare(a.name, b.name) })
	return all
}

func (s *step) readInputs() (in inputs, err error) {
	if in.exchange, err = s.dial(s.gh.GetInput("exchange")); err != nil {
		return in, err
	}
	if in.task, err = taskName(s.gh.GetInput("task")); err != nil {
		return in, err
	}
	if in.ttl, err = duration(s.gh.GetInput("ttl")); err != nil {
		return in, err
	}
	if in.values, err = taskInputs(s.gh.GetInput("inputs")); err != nil {
		return in, err
	}
	if in.exportEnv, err = s.yesNo("export-env", false); err != nil {
		return in, err
	}
	if in.summary, err = s.yesNo("summary", true); err != nil {
		return in, err
	}
	in.audience = s.audience(in.exchange)
	return in, nil
}

// audience is the exchange's URL unless the input says otherwise: a token for one
// exchange is then useless at another.
func (s *step) audience(exchange *client.Client) string {
	if audience := s.gh.GetInput("audience"); audience != "" {
		return audience
	}
	return exchange.URL()
}

// dial checks the URL; it does not connect. STEPKEY_ALLOW_HTTP=true permits plain
// HTTP, for tests on networks that nobody else sees.
func (s *step) dial(exchange string) (*client.Client, error) {
	if exchange == "" {
		return nil, badInput("exchange", "is missing: give the URL of your exchange, as in `exchange: https://exchange.example.com`")
	}
	c, err := client.New(exchange, client.Options{
		HTTP: s.http, UserAgent: "stepkey/" + version(), AllowHTTP: s.getenv("STEPKEY_ALLOW_HTTP") == "true", Now: s.now,
	})
	if err != nil {
		return nil, badInput("exchange", "cannot be used: "+err.Error()+meant(nearURL(exchange)))
	}
	return c, nil
}

// nearURL is what would do in place of a URL that does not.
func nearURL(given string) string {
	_, host, found := strings.Cut(given, "://")
	if !found {
		host = given
	}
	c, err := client.New("https://"+host, client.Options{})
	if err != nil || c.URL() == given {
		return ""
	}
	return c.URL()
}

// longestTask: owner/name:task with the longest names that GitHub has fits.
const longestTask = 256

// taskName allows one scope of RFC 6749 section 3.3: a space would make two.
func taskName(given string) (string, error) {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	switch {
	case given == "":
		return "", badInput("task", "is missing: name the task that this step is for, as in `task: publish-release`")
	case len(given) > longestTask || strings.ContainsFunc(given, bad):
		return "", badInput("task", fmt.Sprintf("is not the name of one task: at most %d letters, digits and signs, without spaces", longestTask))
	}
	return given, nil
}

func duration(given string) (time.Duration, error) {
	if given == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(given)
	if err != nil || ttl < time.Second {
		return 0, badInput("ttl", "is not a duration of at least a second: write it like 90s, 10m or 1h30m, or leave it out to get what the task allows"+meant(nearDuration(given)))
	}
	return ttl, nil
}

// meant asks the writer of a value back; an empty suggestion asks nothing.
func meant(suggestion string) string {
	if suggestion == "" {
		return ""
	}
	return "; did you mean `" + suggestion + "`?"
}

var spelledDuration = regexp.MustCompile(`^([1-9][0-9]{0,4}) ?([a-z]*)$`)

// nearDuration reads durations as people write them: 10min, 5 minutes, 1d.
func nearDuration(given string) string {
	parts := spelledDuration.FindStringSubmatch(strings.ToLower(strings.TrimSpace(given)))
	if parts == nil {
		return ""
	}
	switch strings.TrimSuffix(parts[2], "s") {
	case "", "sec", "second": // no unit, or s alone
		return parts[1] + "s"
	case "m", "min", "minute":
		return parts[1] + "m"
	case "h", "hr", "hour":
		return parts[1] + "h"
	case "d", "day":
		days, _ := strconv.Atoi(parts[1]) // the expression lets nothing else through
		return strconv.Itoa(24*days) + "h"
	}
	return ""
}

// taskInputs reads one "name: value" a line, and no more of YAML than that: a value is
// what stands after the first colon, without the spaces around it. The exchange knows
// which names and values are right.
func taskInputs(given string) (map[string]string, error) {
	values := map[string]string{}
	number := 0
	for line := range strings.Lines(given) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		_, twice := values[name]
		switch {
		case !found || !isName(name, ""):
			return nil, badInput("inputs", fmt.Sprintf("has no `name: value` in line %d: write one input of the task a line, as in `version: v1.2.3`", number))
		case value == "":
			return nil, badInput("inputs", fmt.Sprintf("gives %s no value in line %d", name, number))
		case twice:
			return nil, badInput("inputs", fmt.Sprintf("gives %s a second time in line %d", name, number))
		}
		values[name] = value
	}
	return values, nil
}

// yesNo reads the booleans of YAML 1.2's core schema, as the runner's toolkit does.
func (s *step) yesNo(name string, otherwise bool) (bool, error) {
	switch s.gh.GetInput(name) {
	case "":
		return otherwise, nil
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	return false, badInput(name, "must be true or false"+meant(nearBool(s.gh.GetInput(name))))
}

func nearBool(given string) string {
	switch given = strings.ToLower(given); given {
	case "yes", "y", "on", "1":
		return "true"
	case "no", "n", "off", "0":
		return "false"
	}
	return nearest(given, []string{"true", "false"})
}

func badInput(name, why string) error {
	return &trouble{"input " + name, fmt.Sprintf("the input `%s` %s", name, why)}
}
