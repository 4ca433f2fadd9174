package reach

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Encryption is what is demanded of a database's server, whose protocols know more modes
// than https does.
type Encryption struct {
	Host string
	// RootCertificate is a file of authorities; the machine's own unless given. Where there
	// is one, it is held against the server's certificate, whatever else is demanded.
	RootCertificate string
	Authority       bool // somebody known has signed the certificate
	Identity        bool // and it is Host's
}

// Config is for a client that speaks TLS in any case.
func (e Encryption) Config() (*tls.Config, error) {
	c := &tls.Config{ServerName: e.Host, MinVersion: tls.VersionTLS12}
	if e.RootCertificate != "" {
		roots, _, err := Roots(e.RootCertificate)
		if err != nil {
			return nil, fmt.Errorf("root_certificate: %w", err)
		}
		c.RootCAs = roots
	}
	if e.Identity {
		return c, nil
	}
	c.InsecureSkipVerify = true // of the name; the authority is looked at below
	if e.Authority || c.RootCAs != nil {
		c.VerifyConnection = func(state tls.ConnectionState) error { return signedBy(c.RootCAs, state.PeerCertificates) }
	}
	return c, nil
}

func signedBy(roots *x509.CertPool, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}
