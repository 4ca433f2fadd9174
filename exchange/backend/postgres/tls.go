package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// encryption is nil where there is to be none. A root certificate is held against the
// server's in every other mode.
func (s Server) encryption() (*tls.Config, error) {
	if s.SSLMode == "disable" {
		return nil, nil //nolint:nilnil // which the driver takes for none
	}
	c := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
	if s.RootCertificate != "" {
		roots, _, err := reach.Roots(s.RootCertificate)
		if err != nil {
			return nil, fmt.Errorf("root_certificate: %w", err)
		}
		c.RootCAs = roots
	}
	if s.SSLMode == "verify-full" {
		return c, nil
	}
	c.InsecureSkipVerify = true // of the name; the authority is looked at below
	if s.SSLMode == "verify-ca" || c.RootCAs != nil {
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
