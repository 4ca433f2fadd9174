package identity

import (
	"net"
	"strings"
	"testing"
)

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for address, want := range map[string]string{
		// where issuers are
		"140.82.112.3": "public", "8.8.8.8": "public", "172.15.255.255": "public", "172.32.0.1": "public",
		"100.63.255.255": "public", "100.128.0.1": "public", "2606:50c0:8000::153": "public", "::ffff:8.8.8.8": "public",
		// inside a network: only where private_network allows it
		"127.0.0.1": "private", "127.255.255.254": "private", "::1": "private", "::ffff:127.0.0.1": "private",
		"10.0.0.1": "private", "172.16.0.1": "private", "172.31.255.255": "private", "192.168.1.1": "private", "::ffff:10.1.2.3": "private",
		"100.64.0.1": "private", "100.100.100.200": "private", "192.0.0.192": "private", "198.18.0.1": "private", "203.0.113.9": "private", "240.0.0.1": "private",
		"fc00::1": "private", "fd00:ec2::254": "private", "fec0::1": "private",
		"64:ff9b::7f00:1": "private", "64:ff9b::8.8.8.8": "private", "64:ff9b:1::1": "private", "2002:7f00:1::": "private", "2001::1": "private",
		"::127.0.0.1": "private", "2001:db8::1": "private", "100::1": "private", "4000::1": "private",
		// nobody's issuer
		"0.0.0.0": "never", "0.1.2.3": "never", "::": "never", "::ffff:0.0.0.0": "never",
		"169.254.169.254": "never", "::ffff:169.254.169.254": "never", "fe80::1": "never", "fe80::1%eth0": "never", "168.63.129.16": "never",
		"224.0.0.1": "never", "239.255.255.250": "never", "ff02::1": "never", "255.255.255.255": "never",
	} {
		dialled := net.JoinHostPort(address, "443")
		if err := checkAddress(dialled, false); (err == nil) != (want == "public") {
			t.Errorf("%s is %s, and for a public issuer: %v", address, want, err)
		}
		if err := checkAddress(dialled, true); (err == nil) != (want != "never") {
			t.Errorf("%s is %s, and for an issuer in a private network: %v", address, want, err)
		}
	}
	for _, address := range []string{"", "localhost:443", "8.8.8.8", "/run/socket"} {
		if err := checkAddress(address, true); err == nil {
			t.Errorf("%q was allowed", address)
		}
	}
}

func TestTheAddressIsCheckedAfterTheNameIsResolved(t *testing.T) {
	_, err := guardedTransport(Issuer{}).DialContext(t.Context(), "tcp", "localhost:1")
	if err == nil || !strings.Contains(err.Error(), "not public") {
		t.Errorf("a name of loopback: %v", err)
	}
}

func TestProxyVariablesAreIgnored(t *testing.T) {
	if guardedTransport(Issuer{}).Proxy != nil {
		t.Error("a proxy would dial where the check does not reach")
	}
}
