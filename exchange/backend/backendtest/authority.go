package backendtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs the certificates of servers on this machine.
type Authority struct {
	File string // its own certificate, PEM
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewAuthority is one that nobody trusts yet, good for an hour from now on.
func NewAuthority(t testing.TB, now time.Time) Authority {
	t.Helper()
	a := Authority{File: filepath.Join(t.TempDir(), "root.crt"), key: newKey(t), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}}
	a.cert.Raw = a.sign(t, a.cert, a.key)
	if err := os.WriteFile(a.File, encoded("CERTIFICATE", a.cert.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// Certify makes a certificate and its key, PEM, for the address 127.0.0.1 and no name. It
// is good until then.
func (a Authority) Certify(t testing.TB, until time.Time) (certificate, key []byte) {
	t.Helper()
	own := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	signed := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: a.cert.NotBefore, NotAfter: until,
	}, own)
	return encoded("CERTIFICATE", signed), encoded("PRIVATE KEY", der)
}

func (a Authority) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encoded(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
