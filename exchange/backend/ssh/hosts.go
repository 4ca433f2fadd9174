package ssh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	cryptossh "golang.org/x/crypto/ssh"
)

const (
	hostForm      = "want a host's name in small letters or its address, with :port where it is not 22, as web1.example.com or web1.example.com:2222"
	principalForm = "want a name of letters, digits and _ . @ -, 64 at most and no - in front, as deploy or deploy@web1.example.com"
)

var (
	validPrincipal = regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\z`)
	validHostName  = regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\z`)
)

const sshPort = "22"

// parseHost returns a host as known_hosts spells it: the name, or [name]:port where the
// port is not 22. No pattern, no list and no hash, all of which mean more than one host.
func parseHost(text string) (string, bool) {
	host, port := text, sshPort
	if address, err := netip.ParseAddr(text); err == nil {
		return text, address.String() == text && address.Zone() == ""
	}
	if strings.Contains(text, ":") {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", false
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || strconv.FormatUint(number, 10) != port {
		return "", false
	}
	address, err := netip.ParseAddr(host)
	isAddress := err == nil && address.String() == host && address.Zone() == ""
	switch {
	case !isAddress && (len(host) > 253 || !validHostName.MatchString(host)):
		return "", false
	case port == sshPort:
		return host, true
	}
	return "[" + host + "]:" + port, true
}

const certAuthority = "@cert-authority "

// knownHosts returns the lines of known_hosts by which ssh knows the host. A key may
// have @cert-authority in front: then it is one that signs the host's certificate.
func knownHosts(host string, keys []string) (string, error) {
	if len(keys) == 0 {
		return "", errors.New("no key is given, so that ssh could not know the host; ssh-keyscan shows them, the host's /etc/ssh/*.pub has them")
	}
	var lines strings.Builder
	for _, text := range keys {
		marker := ""
		if rest, marked := strings.CutPrefix(text, certAuthority); marked {
			marker, text = certAuthority, rest
		}
		key, _, options, rest, err := cryptossh.ParseAuthorizedKey([]byte(text))
		if err != nil || len(options) > 0 || len(rest) > 0 {
			return "", errors.New("want a host key as one line of a .pub file, such as ssh-ed25519 AAAA…, or that after @cert-authority")
		}
		if _, certified := key.(*cryptossh.Certificate); certified {
			return "", errors.New("this is a certificate; give the key that signs it, after @cert-authority")
		}
		fmt.Fprintf(&lines, "%s%s %s", marker, host, cryptossh.MarshalAuthorizedKey(key))
	}
	return lines.String(), nil
}
