package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	minTTL     = time.Second
	maxTTL     = 24 * time.Hour
	maxPerJob  = 100
	maxPurpose = 200 // characters
)

// taskFile is the shape of a task file. Its parts are read one by one, so that
// one reading finds the faults of all.
type taskFile struct {
	Task       yamlfile.Node `yaml:"task,required"`
	Purpose    yamlfile.Node `yaml:"purpose,required"`
	Inputs     yamlfile.Node `yaml:"inputs"`
	Allow      yamlfile.Node `yaml:"allow,required"`
	Credential yamlfile.Node `yaml:"credential,required"`
	Limits     yamlfile.Node `yaml:"limits,required"`
	Require    yamlfile.Node `yaml:"require"`
	Bind       yamlfile.Node `yaml:"bind"`
	Accept     yamlfile.Node `yaml:"accept"`
}

type limitsBlock struct {
	TTL    yamlfile.Node `yaml:"ttl,required"`
	PerJob yamlfile.Node `yaml:"per_job"`
	Until  yamlfile.Node `yaml:"until"`
	Uses   yamlfile.Node `yaml:"uses"`
}

// reader reads one task file and collects its faults, and what is good and fragile.
type reader struct {
	Check
	file     string
	declared []Input  // the task's inputs, which expressions may read
	env      *cel.Env // of its expressions; nil until there is one
	faults   []*yamlfile.Error
	doubts   []*yamlfile.Error

	accepted []Finding
}

// readTask returns the task of one file, which is only good without faults, and what
// its reader found.
func readTask(file string, data []byte, c Check) (Task, *reader) {
	r := &reader{Check: c, file: file}
	root, err := yamlfile.Parse(file, data)
	if err != nil {
		r.faults = yamlfile.Faults(err)
		return Task{}, r
	}
	var f taskFile
	r.decode(root, &f)
	task := Task{File: file}
	task.Name = r.name(f.Task)
	task.Purpose = r.purpose(f.Purpose)
	r.declared = r.inputs(f.Inputs)
	task.Inputs = r.declared
	task.allow = r.allow(f.Allow)
	task.Require = r.require(f.Require, task.allow)
	task.Bind = r.bind(f.Bind, task.allow)
	r.credential(f.Credential, &task)
	task.TTL, task.PerJob, task.Until = r.limits(f.Limits)
	r.untilSeen(f.Limits.Get("until"), &task)
	r.lint(root)
	r.accept(f.Accept)
	return task, r
}

func (r *reader) refuse(n yamlfile.Node, format string, args ...any) {
	r.faults = append(r.faults, n.Errorf(format, args...))
}

// find says that n breaks a rule of the linter, which decides how bad that is.
func (r *reader) find(rule string, n yamlfile.Node, format string, args ...any) {
	fault := n.Errorf(format, args...)
	fault.Rule = rule
	if ruleNamed(rule).Severity == Warning {
		r.doubts = append(r.doubts, fault)
	} else {
		r.faults = append(r.faults, fault)
	}
}

// decode reports whether v could be read. Of an absent node nothing is read and
// nothing reported: whoever requires it has done so.
func (r *reader) decode(n yamlfile.Node, v any) bool {
	if !n.Exists() {
		return false
	}
	err := n.Decode(v)
	r.faults = append(r.faults, yamlfile.Faults(err)...)
	return err == nil
}

var taskName = regexp.MustCompile(`\A[a-z][a-z0-9-]{0,62}\z`)

// name also demands that the file is named after the task, so that a reviewer who
// sees a file's name knows which task changes.
func (r *reader) name(n yamlfile.Node) string {
	var name string
	if !r.decode(n, &name) {
		return ""
	}
	switch {
	case !taskName.MatchString(name):
		r.refuse(n, "%s is no name for a task: 1 to 63 of a-z, 0-9 and -, beginning with a letter", yamlfile.Quote(name))
	case r.file != name+".yaml" && r.file != name+".yml":
		r.refuse(n, "task %s is in a file of another name; rename the file to %s.yaml", yamlfile.Quote(name), name)
	}
	return name
}

func (r *reader) purpose(n yamlfile.Node) string {
	var purpose string
	if !r.decode(n, &purpose) {
		return ""
	}
	switch {
	case strings.TrimSpace(purpose) == "":
		r.refuse(n, "purpose is empty; say in one line what the task is for")
	case !printable(purpose):
		r.refuse(n, "purpose must be one line of visible characters")
	case utf8.RuneCountInString(purpose) > maxPurpose:
		r.refuse(n, "purpose has %d characters; at most %d", utf8.RuneCountInString(purpose), maxPurpose)
	}
	return purpose
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// credential reads the one backend's block, with the backend's own eyes. A block with
// expressions is read as it would be for a sample of who may have the task, so that what
// is wrong with it by itself is found now.
func (r *reader) credential(n yamlfile.Node, task *Task) {
	if !n.Exists() {
		return
	}
	keys := n.Keys()
	if len(keys) != 1 {
		r.refuse(n, "credential must name exactly one backend and its block, as github: {…}; found %d", len(keys))
		return
	}
	kind, block := keys[0], n.Get(keys[0])
	scoper, ok := r.Backends[kind]
	if !ok {
		r.refuse(n.Key(kind), "no backend %s is configured (configured: %s)", yamlfile.Quote(kind), listed(r.Backends))
		return
	}
	faults := len(r.faults)
	task.Backend, task.scoper = kind, scoper
	task.template, task.Templated = r.template(block, task.allow)
	if len(r.faults) > faults || (task.Templated && len(task.allow) == 0) {
		return
	}
	block, none := task.template.fill(task.sample())
	if none != nil {
		r.refuse(none.at, "for somebody who may have the task, as an example, %s", none.why)
		return
	}
	if !task.Templated {
		task.template = template{block: block}
	}
	task.Scope = r.scope(kind, block)
}

func (r *reader) scope(kind string, block backend.Block) backend.Scope {
	scope, err := r.Backends[kind].Scope(block)
	faults := yamlfile.Faults(err)
	switch {
	case len(faults) > 0:
		r.faults = append(r.faults, faults...)
	case err != nil:
		r.refuse(block, "%v", err)
	case scope == nil:
		r.refuse(block, "the backend %s gave no scope for this block", kind)
	}
	return scope
}

func (r *reader) limits(n yamlfile.Node) (ttl time.Duration, perJob int, until Until) {
	var l limitsBlock
	r.decode(n, &l)
	perJob = 1
	if r.decode(l.TTL, &ttl) && (ttl < minTTL || ttl > maxTTL || ttl%time.Second != 0) {
		r.refuse(l.TTL, "ttl is %s; it must be whole seconds from %s to %s", span(ttl), span(minTTL), span(maxTTL))
	}
	if r.decode(l.PerJob, &perJob) && (perJob < 1 || perJob > maxPerJob) {
		r.refuse(l.PerJob, "per_job is %d; it must be from 1 to %d", perJob, maxPerJob)
	}
	if l.Uses.Exists() {
		r.refuse(l.Uses, "only a gateway can count uses; this version hands the credential out")
	}
	return ttl, perJob, r.until(l.Until)
}

// span writes a duration as people do: 10m, and not 10m0s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// place names a node for people: "publish-release.yaml:5".
func place(n yamlfile.Node) string {
	return fmt.Sprintf("%s:%d", n.File(), n.Line())
}

// listed gives the keys of a map in words.
func listed[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none"
	}
	var quoted []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		quoted = append(quoted, strconv.Quote(key))
	}
	return strings.Join(quoted, ", ")
}
