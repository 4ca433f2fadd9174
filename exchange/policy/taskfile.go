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
	Allow      yamlfile.Node `yaml:"allow,required"`
	Credential yamlfile.Node `yaml:"credential,required"`
	Limits     yamlfile.Node `yaml:"limits,required"`
}

type limitsBlock struct {
	TTL    yamlfile.Node `yaml:"ttl,required"`
	PerJob yamlfile.Node `yaml:"per_job"`
	Uses   yamlfile.Node `yaml:"uses"`
}

// reader reads one task file and collects its faults.
type reader struct {
	Check
	file   string
	faults []*yamlfile.Error
}

// readTask returns the task of one file, which is only good without faults.
func readTask(file string, data []byte, c Check) (Task, []*yamlfile.Error) {
	root, err := yamlfile.Parse(file, data)
	if err != nil {
		return Task{}, yamlfile.Faults(err)
	}
	r := &reader{Check: c, file: file}
	var f taskFile
	r.decode(root, &f)
	task := Task{File: file}
	task.Name = r.name(f.Task)
	task.Purpose = r.purpose(f.Purpose)
	task.allow = r.allow(f.Allow)
	task.Backend, task.Scope = r.credential(f.Credential)
	task.TTL, task.PerJob = r.limits(f.Limits)
	return task, r.faults
}

func (r *reader) refuse(n yamlfile.Node, format string, args ...any) {
	r.faults = append(r.faults, n.Errorf(format, args...))
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

// credential reads the one backend's block, with the backend's own eyes.
func (r *reader) credential(n yamlfile.Node) (string, backend.Scope) {
	if !n.Exists() {
		return "", nil
	}
	keys := n.Keys()
	if len(keys) != 1 {
		r.refuse(n, "credential must name exactly one backend and its block, as github: {…}; found %d", len(keys))
		return "", nil
	}
	kind, block := keys[0], n.Get(keys[0])
	scoper, ok := r.Backends[kind]
	if !ok {
		r.refuse(n.Key(kind), "no backend %s is configured (configured: %s)", yamlfile.Quote(kind), listed(r.Backends))
		return "", nil
	}
	if r.refuseTemplates(block) {
		return "", nil
	}
	scope, err := scoper.Scope(block)
	faults := yamlfile.Faults(err)
	switch {
	case len(faults) > 0:
		r.faults = append(r.faults, faults...)
	case err != nil:
		r.refuse(block, "%v", err)
	case scope == nil:
		r.refuse(block, "the backend %s gave no scope for this block", kind)
	}
	return kind, scope
}

// refuseTemplates refuses ${ in every text of a block, keys included. Handed to a
// backend as it stands, it would be taken for a name.
func (r *reader) refuseTemplates(n yamlfile.Node) (found bool) {
	var text string
	if !n.IsList() && !n.IsMapping() && n.Decode(&text) == nil && strings.Contains(text, "${") {
		r.refuse(n, "expressions (${…}) are not supported by this version; write the value out")
		return true
	}
	for _, key := range n.Keys() {
		if strings.Contains(key, "${") {
			r.refuse(n.Key(key), "expressions (${…}) are not supported by this version; write the key out")
			found = true
		}
		found = r.refuseTemplates(n.Get(key)) || found
	}
	for _, item := range n.Items() {
		found = r.refuseTemplates(item) || found
	}
	return found
}

func (r *reader) limits(n yamlfile.Node) (ttl time.Duration, perJob int) {
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
	return ttl, perJob
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
