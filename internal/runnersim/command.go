package runnersim

import "strings"

// command is a workflow command: ::name key=value,…::data on a line of its own.
type command struct {
	name       string
	properties map[string]string
	data       string
}

// parseCommand reads one line of a step's output. A line that is no command is
// ordinary output.
func parseCommand(line string) (command, bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "::")
	if !ok {
		return command{}, false
	}
	head, data, ok := strings.Cut(rest, "::")
	if !ok || head == "" {
		return command{}, false
	}
	name, list, _ := strings.Cut(head, " ")
	c := command{name: strings.ToLower(name), properties: map[string]string{}, data: unescapeData(data)}
	for entry := range strings.SplitSeq(list, ",") {
		if key, v, ok := strings.Cut(strings.TrimSpace(entry), "="); ok {
			c.properties[strings.ToLower(key)] = unescapeProperty(v)
		}
	}
	return c, true
}

// The percent sign comes last: %250A is the text %0A, not a line feed. A Replacer
// never looks at its own output, so one pass does it.
var (
	dataEscapes     = []string{"%0D", "\r", "%0A", "\n", "%25", "%"}
	propertyEscapes = append([]string{"%3A", ":", "%2C", ","}, dataEscapes...)
)

func unescapeData(s string) string     { return strings.NewReplacer(dataEscapes...).Replace(s) }
func unescapeProperty(s string) string { return strings.NewReplacer(propertyEscapes...).Replace(s) }
