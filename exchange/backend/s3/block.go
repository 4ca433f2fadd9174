package s3

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	s3:
//	  bucket: backups
//	  prefix: widget/nightly/
//	  actions: [write]
type block struct {
	Bucket  yamlfile.Node   `yaml:"bucket,required"`
	Prefix  yamlfile.Node   `yaml:"prefix,required"`
	Actions []yamlfile.Node `yaml:"actions,required"`
}

// Names of buckets as S3 has them, and prefixes without what policies read as a pattern
// or a variable.
var (
	validBucket = regexp.MustCompile(`\A[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\z`)
	validPrefix = regexp.MustCompile(`\A([A-Za-z0-9!_.'()=@+,-]+/)+\z`)
)

const maxPrefix = 512 // bytes; a key has 1,024

func bucketFault(name string) string {
	switch {
	case !validBucket.MatchString(name):
		return "want 3 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends"
	case strings.Contains(name, ".."), strings.Contains(name, ".-"), strings.Contains(name, "-."), net.ParseIP(name) != nil:
		return "S3 has no bucket of such a name"
	}
	return ""
}

// prefixFault: that a prefix ends with / keeps a task of widget/ out of widget-2/.
func prefixFault(prefix string) string {
	switch {
	case len(prefix) > maxPrefix:
		return fmt.Sprintf("it has %d bytes, and a task takes %d at most", len(prefix), maxPrefix)
	case strings.HasPrefix(prefix, "/"):
		return "keys begin with no /, so nothing would be below it"
	case prefix != "" && !strings.HasSuffix(prefix, "/"):
		return "want a / at its end, so that widget/ does not take in widget-2/"
	case !validPrefix.MatchString(prefix):
		return "want parts of letters, digits and !_.'()=@+,- that each end with /, as widget/nightly/"
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if part == "." || part == ".." {
			return "parts that are . or .. mean something else to many programs"
		}
	}
	return ""
}

// reader reads one block.
type reader struct {
	yamlfile.Collector
	block  block
	limits Limits
}

// Scope reads a task's block; see block for its keys.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want a bucket, a prefix and what may be done there, as s3: {bucket: backups, prefix: widget/, actions: [write]}")
	}
	r := &reader{limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{expires: b.limits.Expires, bucket: r.bucket(), prefix: r.prefix(), actions: r.actions(node)}
	s.listed = r.listed(node, s)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) bucket() string {
	name, ok := r.Text(r.block.Bucket)
	if !ok {
		return ""
	}
	if why := bucketFault(name); why != "" {
		r.Refuse(r.block.Bucket, "%s is no bucket: %s", yamlfile.Quote(name), why)
	} else if r.limits.Buckets != nil && !slices.Contains(r.limits.Buckets, name) {
		r.Refuse(r.block.Bucket, "the bucket %s is not one of the configuration's%s", name, meant(name, r.limits.Buckets))
	}
	return name
}

func meant(name string, names []string) string {
	if near := yamlfile.Nearest(name, names); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ", which are: " + strings.Join(names, ", ")
}

func (r *reader) prefix() string {
	prefix, ok := r.Text(r.block.Prefix)
	if !ok {
		return ""
	}
	if why := prefixFault(prefix); why != "" {
		r.Refuse(r.block.Prefix, "%s cannot be a prefix: %s", yamlfile.Quote(prefix), why)
	}
	return prefix
}

// listed: MinIO reads a prefix from a request's header, too, and holds that one against the
// policy while it lists by another. So whoever may list below one prefix sees every name.
// Of a server that nobody tried, the same is believed.
func (r *reader) listed(node backend.Block, s *scope) bool {
	if r.limits.Listed == nil || !slices.Contains(s.actions, "list") {
		return false
	}
	if !slices.Contains(r.limits.Listed, s.bucket) {
		shows := "MinIO shows"
		if s.expires {
			shows = "a server of kind sts may show"
		}
		r.Refuse(node.Get("actions"), "with list, %s the names of all objects in the bucket, below whatever prefix; "+
			"leave list out, or let the configuration name the bucket under listed if every task may see them", shows)
	}
	return true
}

func (r *reader) actions(node backend.Block) []string {
	if len(r.block.Actions) == 0 {
		r.Refuse(node.Get("actions"), "no action is named, and a session without any is good for nothing; want some of %s", strings.Join(actionNames, ", "))
	}
	var all []string
	for _, at := range r.block.Actions {
		name, ok := r.Text(at)
		switch {
		case !ok:
			continue
		case !slices.Contains(actionNames, name):
			r.Refuse(at, "%s is no action%s", yamlfile.Quote(name), meant(name, actionNames))
		case slices.Contains(all, name):
			r.Refuse(at, "the action %s is named twice", name)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
