package identity

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// guardedTransport reaches the issuer and nothing inside our network. The address
// is checked when the socket connects, after the name was resolved: a name that
// resolves to another address the second time gains nothing. Proxy variables are
// ignored, since a proxy would resolve the name where no check reaches.
func guardedTransport(i Issuer) *http.Transport {
	dialer := &net.Dialer{
		Timeout: requestTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			return checkAddress(address, i.Private)
		},
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: i.Roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true, // a TLSClientConfig of one's own switches it off
		DisableCompression:     true, // 256 KiB are 256 KiB
		MaxResponseHeaderBytes: 16 << 10,
		IdleConnTimeout:        10 * time.Second, // for the two requests of one fetch; the next is an hour away
	}
}

// checkAddress decides where a connection may go: ip:port as it is dialled.
func checkAddress(address string, private bool) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused to connect to an address that is not ip:port: %w", err)
	}
	ip := target.Addr().WithZone("").Unmap()
	switch {
	case in(ip, neverPrefixes()):
		return fmt.Errorf("refused to connect to %s: no issuer is there", ip)
	case private:
		return nil
	case in(ip, insidePrefixes()) || (ip.Is6() && !publicIPv6().Contains(ip)):
		return fmt.Errorf("refused to connect to %s: the address is not public (private_network allows it)", ip)
	}
	return nil
}

func in(ip netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// neverPrefixes are refused even for an issuer in a private network: unspecified,
// link-local (cloud metadata services live there), multicast, broadcast.
func neverPrefixes() []netip.Prefix {
	return prefixes("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
		"168.63.129.16/32", // Azure's host agent: a public address that is always inside
		"::/128", "fe80::/10", "ff00::/8")
}

// insidePrefixes are the special-purpose addresses (RFC 6890) that are not on the
// public internet, or stand for an IPv4 address that might not be.
func insidePrefixes() []netip.Prefix {
	return prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
		"100.64.0.0/10",                                                     // carrier-grade NAT
		"192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // protocols, documentation
		"198.18.0.0/15", "192.88.99.0/24", "240.0.0.0/4", // benchmarks, old relays, reserved
		"64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "::/96", // NAT64, Teredo, 6to4, IPv4-compatible
		"2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "3fff::/20") // benchmarks, ORCHID, documentation
}

// publicIPv6 is all of IPv6 that is routed publicly today. Loopback, unique local
// and site-local addresses are outside.
func publicIPv6() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for n, text := range texts {
		list[n] = netip.MustParsePrefix(text)
	}
	return list
}
