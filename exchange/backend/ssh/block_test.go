package ssh_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	cryptossh "golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// anything is what task files are checked with where no configuration is at hand.
func anything() *ssh.Backend { return ssh.New(ssh.Options{}) }

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	const end = "; its end stops new logins, an open session goes on"
	for block, want := range map[string]string{
		`{principals: [deploy], hosts: [web1.example.com]}`:                                        "SSH login as deploy on hosts that trust the exchange, with the keys of web1.example.com, any command",
		`{principals: [b, a], hosts: ["web1.example.com:22", "web2.example.com:2222"]}`:            "SSH login as a, b on hosts that trust the exchange, with the keys of [web2.example.com]:2222, web1.example.com, any command",
		`{principals: [deploy@web1], hosts: ["203.0.113.7", "2001:db8::1", "[2001:db8::1]:2022"]}`: "SSH login as deploy@web1 on hosts that trust the exchange, with the keys of 2001:db8::1, 203.0.113.7, [2001:db8::1]:2022, any command",
		`{principals: [d], hosts: [w], force_command: "/usr/bin/backup --to 'a b'"}`:               `SSH login as d on hosts that trust the exchange, with the keys of w, only the command "/usr/bin/backup --to 'a b'"`,
		`{principals: [d], hosts: [w], force_command: internal-sftp -R}`:                           `SSH login as d on hosts that trust the exchange, with the keys of w, only the command "internal-sftp -R"`,
		`{principals: [d], hosts: [w], source_address: ["203.0.113.7", "2001:db8::/32"]}`:          "SSH login as d on hosts that trust the exchange, with the keys of w, any command, from 203.0.113.7/32, 2001:db8::/32",
		`{principals: [d], hosts: [w], extensions: [permit-pty, permit-user-rc]}`:                  "SSH login as d on hosts that trust the exchange, with the keys of w, any command, with permit-pty, permit-user-rc",
		`{principals: [d], hosts: [w], extensions: []}`:                                            "SSH login as d on hosts that trust the exchange, with the keys of w, any command",
		`{principals: [a, b, c, d, e, f, g], hosts: [w]}`:                                          "SSH login as a, b, c, d, e and 2 more on hosts that trust the exchange, with the keys of w, any command",
	} {
		scope, err := anything().Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want+end {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want+end)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	d := sit(t)
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat("a, ", n), ", ") }
	for _, c := range []struct{ block, at, says string }{
		{`[deploy]`, "2:8", "want who may log in where"},
		{`{hosts: [web1.example.com]}`, "2:8", `missing: "principals"`},
		{`{principals: [deploy]}`, "2:8", `missing: "hosts"`},
		{`{principal: [deploy], hosts: [web1.example.com]}`, "2:8", `missing: "principals"`},
		{`{principals: [], hosts: [web1.example.com]}`, "2:21", "no principal is named"},
		{`{principals: [deploy], hosts: []}`, "2:38", "no host is named"},
		{`{principals: [root], hosts: [web1.example.com]}`, "2:22", "not one of the configuration's, which are: deploy"},
		{`{principals: [deploy, deploy], hosts: [web1.example.com]}`, "2:30", "named twice"},
		{`{principals: [deploy], hosts: [web9.example.com]}`, "2:39", "has no keys in the configuration"},
		{`{principals: [deploy], hosts: [WEB1.example.com]}`, "2:39", "small letters"},
		{`{principals: [deploy], hosts: [web1.example.com, "web1.example.com:22"]}`, "2:57", "named twice"},
		{`{principals: [deploy], hosts: ["web1.example.com:022"]}`, "2:39", "want a host's name"},
		{`{principals: [deploy], hosts: ["web1.example.com:0"]}`, "2:39", "want a host's name"},
		{`{principals: [deploy], hosts: ["fe80::1%eth0"]}`, "2:39", "want a host's name"},
		{`{principals: [` + many(17) + `], hosts: [web1.example.com]}`, "2:70", "17 are named here; a task takes 16 at most"},
		{`{principals: [deploy], hosts: [web1.example.com], force_command: ""}`, "2:73", "begins with its whole path"},
		{`{principals: [deploy], hosts: [web1.example.com], force_command: internal-sftpx}`, "2:73", "begins with its whole path"},
		{`{principals: [deploy], hosts: [web1.example.com], force_command: [/bin/true]}`, "2:73", "want text"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: []}`, "2:74", "leave the key out for all"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: ["203.0.113.7/24"]}`, "2:75", "begins at 203.0.113.0/24"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: ["::/0"]}`, "2:75", "every address"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: ["::ffff:203.0.113.7"]}`, "2:75", "without ::ffff:"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: ["10.0.0.0/8", "10.1.0.0/16"]}`, "2:89", "overlap"},
		{`{principals: [deploy], hosts: [web1.example.com], source_address: ["10.0.0.1", "10.0.0.1/32"]}`, "2:87", "named twice"},
		{`{principals: [deploy], hosts: [web1.example.com], extensions: [permit-tty]}`, "2:71", `did you mean "permit-pty"?`},
		{`{principals: [deploy], hosts: [web1.example.com], extensions: [no-touch-required]}`, "2:71", "there is: permit-X11-forwarding"},
	} {
		scope, err := d.Scope(node(t, c.block))
		faults := yamlfile.Faults(err)
		if len(faults) == 0 {
			t.Errorf("%.90s: accepted as %v, or refused without a place: %v", c.block, scope, err)
			continue
		}
		if at := fmt.Sprintf("%d:%d", faults[0].Line, faults[0].Column); at != c.at || !strings.Contains(faults[0].Message, c.says) {
			t.Errorf("%.90s\n  is refused at %s: %s\n  want         at %s: …%s…", c.block, at, faults[0].Message, c.at, c.says)
		}
	}
	_, err := d.Scope(node(t, `{principals: [root, "*"], hosts: [x y], force_command: sh, source_address: [a], extensions: [b]}`))
	if got := len(yamlfile.Faults(err)); got != 6 {
		t.Errorf("%d faults are told, want 6: %v", got, err)
	}
}

// drawn is a block and what it says.
type drawn struct {
	principals, hosts, sources, extensions []string
	command                                string
}

func (d drawn) block() string {
	list := func(of []string) string { return `["` + strings.Join(of, `", "`) + `"]` }
	b := "{principals: " + list(d.principals) + ", hosts: " + list(d.hosts)
	if len(d.sources) > 0 {
		b += ", source_address: " + list(d.sources)
	}
	if len(d.extensions) > 0 {
		b += ", extensions: " + list(d.extensions)
	}
	if d.command != "" {
		b += ", force_command: " + d.command
	}
	return b + "}"
}

func draw(t *rapid.T, label string) drawn {
	some := func(what string, least int, of ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), least, len(of), rapid.ID[string]).Draw(t, label+" "+what)
	}
	return drawn{
		principals: some("principals", 1, "deploy", "backup", "root"), hosts: some("hosts", 1, "a", "b", "c"),
		extensions: some("extensions", 0, "permit-pty", "permit-user-rc"),
		// No two of one set overlap.
		sources: rapid.SampledFrom([][]string{nil, {"10.0.0.0/8"}, {"10.0.0.0/9"}, {"10.128.0.0/9"}, {"10.0.0.0/9", "10.128.0.0/9"},
			{"10.0.0.7"}, {"10.0.0.7", "2001:db8::/32"}, {"2001:db8::1"}, {"2001:db8::/32", "10.0.0.0/8"}}).Draw(t, label+" sources"),
		command: rapid.SampledFrom([]string{"", "/bin/a", "/bin/b"}).Draw(t, label+" command"),
	}
}

// login is one thing that somebody tries.
type login struct{ principal, host, from, command, extension string }

// allows is what the words of OpenSSH's manual say of a certificate, told once more.
func (d drawn) allows(l login) bool {
	from := netip.MustParseAddr(l.from)
	inside := len(d.sources) == 0 || slices.ContainsFunc(d.sources, func(text string) bool {
		if !strings.Contains(text, "/") {
			return text == l.from
		}
		return netip.MustParsePrefix(text).Contains(from)
	})
	return slices.Contains(d.principals, l.principal) && slices.Contains(d.hosts, l.host) && inside &&
		(d.command == "" || d.command == l.command) && (l.extension == "" || slices.Contains(d.extensions, l.extension))
}

// Over all that can be tried: what is covered allows nothing that is refused by what
// covers it. And covering is an order.
func TestCoversIsAnOrderAndNeverAllowsMore(t *testing.T) {
	b := anything()
	read := func(r *rapid.T, d drawn) backend.Scope {
		scope, err := b.Scope(node(t, d.block()))
		if err != nil {
			r.Fatalf("%s: %v", d.block(), err)
		}
		return scope
	}
	rapid.Check(t, func(t *rapid.T) {
		dx, dy, dz := draw(t, "x"), draw(t, "y"), draw(t, "z")
		x, y, z := read(t, dx), read(t, dy), read(t, dz)
		tried := login{
			rapid.SampledFrom([]string{"deploy", "backup", "root"}).Draw(t, "principal"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host"),
			rapid.SampledFrom([]string{"10.0.0.7", "10.0.0.8", "10.200.0.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"}).Draw(t, "from"),
			rapid.SampledFrom([]string{"/bin/a", "/bin/b", "/bin/c"}).Draw(t, "command"),
			rapid.SampledFrom([]string{"", "permit-pty", "permit-user-rc"}).Draw(t, "extension"),
		}
		switch {
		case !x.Covers(x):
			t.Fatalf("%s does not cover itself", x)
		case x.Covers(y) && y.Covers(z) && !x.Covers(z):
			t.Fatalf("%s covers %s, which covers %s, which the first does not cover", x, y, z)
		case x.Covers(y) && y.Covers(x) && x.String() != y.String():
			t.Fatalf("%s and %s cover each other", x, y)
		case x.Covers(y) && dy.allows(tried) && !dx.allows(tried):
			t.Fatalf("%s covers %s, which alone allows %+v", x, y, tried)
		}
	})
}

// Some hosts take a certificate without principals for every user.
func TestAScopeThatNamesNobodyIsCoveredByNone(t *testing.T) {
	scope, err := anything().Scope(node(t, "{principals: [deploy], hosts: [web1.example.com]}"))
	if err != nil {
		t.Fatal(err)
	}
	if scope.Covers(ssh.Nobody) || ssh.Nobody.Covers(ssh.Nobody) || ssh.Nobody.Covers(scope) {
		t.Error("it is covered, or covers")
	}
}

// Whatever a block holds: what is taken is a certificate that says nothing else, in
// words that people can read.
func FuzzBlock(f *testing.F) {
	for _, block := range hostile {
		f.Add(block)
	}
	for _, block := range []string{good, narrower, wider} {
		f.Add(block)
	}
	b := anything()
	_, ca := newSigner(f)
	signing := ssh.New(ssh.Options{Authorities: []cryptossh.Signer{ca}})
	f.Fuzz(func(t *testing.T, block string) {
		root, err := yamlfile.Parse("task.yaml", []byte(block))
		if err != nil {
			return
		}
		scope, err := b.Scope(root)
		if err != nil {
			if len(yamlfile.Faults(err)) == 0 {
				t.Fatalf("refused without a place: %v", err)
			}
			return
		}
		if words := scope.String(); strings.ContainsFunc(words, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
			t.Fatalf("said in words that people cannot read: %q", words)
		}
		if !scope.Covers(scope) {
			t.Fatalf("%s does not cover itself", scope)
		}
		now := time.Now()
		made, err := signing.Issue(t.Context(), backend.Order{Lease: newLease(), Scope: scope, At: now, Until: now.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		certifiedAsSaid(t, made)
	})
}

func certifiedAsSaid(t *testing.T, made backend.Issued) {
	t.Helper()
	public, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(made.Values["certificate"].Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	c, ok := public.(*cryptossh.Certificate)
	if !ok || len(c.ValidPrincipals) == 0 || c.CertType != cryptossh.UserCert || c.ValidBefore == cryptossh.CertTimeInfinity || c.Serial == 0 {
		t.Fatalf("a certificate that is too good: %+v", c)
	}
	for _, principal := range c.ValidPrincipals {
		if strings.ContainsAny(principal, " ,*?!|\n\x00\"") {
			t.Fatalf("the principal %q means more than one", principal)
		}
	}
	for option, value := range c.CriticalOptions {
		if strings.ContainsAny(value, "\n\r\x00") || value == "" || option != "force-command" && option != "source-address" {
			t.Fatalf("the option %q is %q", option, value)
		}
	}
}
