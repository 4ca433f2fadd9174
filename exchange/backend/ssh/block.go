package ssh

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// block is the task file's part as written:
//
//	ssh:
//	  principals: [deploy]
//	  hosts: [web1.example.com]
//	  force_command: /usr/local/bin/deploy
//	  source_address: [203.0.113.0/24]
//	  extensions: [permit-pty]
type block struct {
	Principals []yamlfile.Node `yaml:"principals,required"`
	Hosts      []yamlfile.Node `yaml:"hosts,required"`
	Command    yamlfile.Node   `yaml:"force_command"`
	Sources    []yamlfile.Node `yaml:"source_address"`
	Extensions []yamlfile.Node `yaml:"extensions"`
}

// What sshd reads of a certificate has bounds of its own (256 principals); these are far
// below, so that the words of a scope stay words.
const (
	maxPrincipals = 16
	maxHosts      = 32
	maxSources    = 32
	maxCommand    = 512
)

// reader reads one block.
type reader struct {
	yamlfile.Collector
	node   backend.Block
	block  block
	limits Limits
}

// Scope reads a task's block; see block for its keys.
func (b *Backend) Scope(node backend.Block) (backend.Scope, error) {
	if !node.IsMapping() {
		return nil, node.Errorf("want who may log in where, as ssh: {principals: [deploy], hosts: [web1.example.com]}")
	}
	r := &reader{node: node, limits: b.limits}
	if err := node.Decode(&r.block); err != nil {
		return nil, err
	}
	s := &scope{
		principals: r.principals(), hosts: r.hosts(), command: r.command(),
		sources: r.sources(), extensions: r.extensions(),
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// list reads texts, each turned by one into what it means, at most most of them, none
// twice. It returns them sorted.
func (r *reader) list(items []yamlfile.Node, most int, one func(yamlfile.Node, string) (string, bool)) []string {
	if len(items) > most {
		r.Refuse(items[most], "%d are named here; a task takes %d at most", len(items), most)
		return nil
	}
	var all []string
	for _, at := range items {
		text, ok := r.Text(at)
		if !ok {
			continue
		}
		meant, ok := one(at, text)
		if ok && slices.Contains(all, meant) {
			r.Refuse(at, "%s is named twice", yamlfile.Quote(text))
		}
		if ok {
			all = append(all, meant)
		}
	}
	slices.Sort(all)
	return all
}

func (r *reader) principals() []string {
	if len(r.block.Principals) == 0 {
		r.Refuse(r.node.Get("principals"), "no principal is named, and some hosts take such a certificate for every user; name the one that logs in, as [deploy]")
	}
	return r.list(r.block.Principals, maxPrincipals, func(at yamlfile.Node, text string) (string, bool) {
		switch {
		case !validPrincipal.MatchString(text):
			r.Refuse(at, "%s; found %s", principalForm, yamlfile.Quote(text))
			return "", false
		case r.limits.Principals != nil && !slices.Contains(r.limits.Principals, text):
			r.Refuse(at, "the principal %s is not one of the configuration's, which are: %s", text, strings.Join(r.limits.Principals, ", "))
			return "", false
		}
		return text, true
	})
}

func (r *reader) hosts() []string {
	if len(r.block.Hosts) == 0 {
		r.Refuse(r.node.Get("hosts"), "no host is named, so that ssh would know none; name where to log in, as [web1.example.com]")
	}
	return r.list(r.block.Hosts, maxHosts, func(at yamlfile.Node, text string) (string, bool) {
		host, ok := parseHost(text)
		if !ok {
			r.Refuse(at, "%s; found %s", hostForm, yamlfile.Quote(text))
			return "", false
		}
		if _, known := r.limits.Hosts[host]; r.limits.Hosts != nil && !known {
			r.Refuse(at, "the host %s has no keys in the configuration; add them under backends, ssh, hosts", host)
			return "", false
		}
		return host, true
	})
}

// validCommand: what the user's shell on the host runs must not depend on where it
// looks, so it begins with a whole path, or is sshd's own server of files. One line of
// printable ASCII is read by people as it is by the shell.
var validCommand = regexp.MustCompile(`\A(/[!-~]|internal-sftp( |\z))[ -~]*\z`)

func (r *reader) command() string {
	at := r.block.Command
	if !at.Exists() {
		return ""
	}
	text, ok := r.Text(at)
	switch {
	case !ok:
	case len(text) > maxCommand:
		r.Refuse(at, "the command has %d characters; %d is the most, so put it into a program on the host", len(text), maxCommand)
	case !validCommand.MatchString(text):
		r.Refuse(at, "want a command that begins with its whole path, as /usr/local/bin/deploy, or internal-sftp, in one line of plain ASCII; found %s", yamlfile.Quote(text))
	}
	return text
}

func (r *reader) sources() []netip.Prefix {
	at := r.node.Get("source_address")
	if at.Exists() && len(r.block.Sources) == 0 {
		r.Refuse(at, "no address is named; name those that the logins come from, as [203.0.113.0/24], or leave the key out for all")
	}
	var all []netip.Prefix
	r.list(r.block.Sources, maxSources, func(at yamlfile.Node, text string) (string, bool) {
		prefix, why := parseSource(text)
		if why != "" {
			r.Refuse(at, "%s; found %s", why, yamlfile.Quote(text))
			return "", false
		}
		if i := slices.IndexFunc(all, func(p netip.Prefix) bool { return p.Overlaps(prefix) && p != prefix }); i >= 0 {
			r.Refuse(at, "%s and %s overlap; leave one out", prefix, all[i])
			return "", false
		}
		all = append(all, prefix)
		return prefix.String(), true
	})
	slices.SortFunc(all, netip.Prefix.Compare)
	return all
}

// parseSource reads an address or a range of them as sshd does, which refuses a whole
// certificate for a range with bits set beyond its length.
func parseSource(text string) (prefix netip.Prefix, why string) {
	const form = "want an address or a range, as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return prefix, form
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	switch {
	case prefix.Addr().Is4In6():
		return prefix, "write an IPv4 address as such, without ::ffff:"
	case prefix.Bits() == 0:
		return prefix, "this is every address; leave source_address out if that is meant"
	case prefix != prefix.Masked():
		return prefix, "the range begins at " + prefix.Masked().String() + "; write it so"
	}
	return prefix, ""
}

// extensions that sshd knows, less no-touch-required, which is of keys in hardware. It
// grants none of them by itself to the holder of a certificate.
var extensions = map[string]string{
	"permit-X11-forwarding":   "Programs on the host may show windows at the step's side.",
	"permit-agent-forwarding": "The host may use the step's ssh-agent while the session lasts.",
	"permit-port-forwarding":  "Connections may be made through the host.",
	"permit-pty":              "The session may have a terminal.",
	"permit-user-rc":          "The user's ~/.ssh/rc on the host is run.",
}

func (r *reader) extensions() []string {
	return r.list(r.block.Extensions, len(extensions), func(at yamlfile.Node, text string) (string, bool) {
		if _, known := extensions[text]; known {
			return text, true
		}
		names := extensionNames()
		if near := yamlfile.Nearest(text, names); near != "" {
			r.Refuse(at, "there is no extension %s (did you mean %q?)", yamlfile.Quote(text), near)
		} else {
			r.Refuse(at, "there is no extension %s; there is: %s", yamlfile.Quote(text), strings.Join(names, ", "))
		}
		return "", false
	})
}
