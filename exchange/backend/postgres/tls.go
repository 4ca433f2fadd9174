package postgres

import (
	"crypto/tls"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// encryption is nil where there is to be none.
func (s Server) encryption() (*tls.Config, error) {
	if s.SSLMode == "disable" {
		return nil, nil //nolint:nilnil // which the driver takes for none
	}
	return reach.Encryption{
		Host: s.Host, RootCertificate: s.RootCertificate, Authority: s.SSLMode == "verify-ca", Identity: s.SSLMode == "verify-full",
	}.Config()
}
