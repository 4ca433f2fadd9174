package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// login is what a password says. Nobody can read more out of it than its holder was told,
// and nobody without the key can write one.
type login struct {
	Lease   backend.LeaseID `json:"lease"`
	Until   int64           `json:"until"` // Unix seconds
	Service string          `json:"service"`
	Grants  []grant         `json:"grants"`
}

// over reports whether the password has died by itself.
func (l login) over(now time.Time) bool { return now.Unix() >= l.Until }

const (
	// passwordPrefix lets scanners of sources and logs find one that was lost.
	passwordPrefix = "skr_"
	maxPassword    = 8 << 10 // bytes; what maxNames makes is below
)

var encoding = base64.RawURLEncoding.Strict()

func (k *Key) code(text string) []byte {
	code := hmac.New(sha256.New, k.passwords)
	code.Write([]byte(text))
	return code.Sum(nil)
}

// password writes a login so that it can be recognised.
func (k *Key) password(l login) (secret.String, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return secret.String{}, fmt.Errorf("writing the password: %w", err)
	}
	body := passwordPrefix + encoding.EncodeToString(text)
	return secret.New(body + "." + encoding.EncodeToString(k.code(body))), nil
}

// login reads a password of any of our keys; false for everything else. Nothing in it is
// looked at before its code is found right.
func (b *Backend) login(password string) (login, bool) {
	body, code, cut := strings.Cut(password, ".")
	given, err := encoding.DecodeString(code)
	if len(password) > maxPassword || !cut || err != nil || !b.coded(body, given) {
		return login{}, false
	}
	text, err := encoding.DecodeString(strings.TrimPrefix(body, passwordPrefix))
	var l login
	if err != nil || json.Unmarshal(text, &l) != nil {
		return login{}, false
	}
	return l, l.Lease != "" && l.Service == b.limits.Service
}

func (b *Backend) coded(body string, given []byte) bool {
	for _, key := range b.keys {
		if hmac.Equal(key.code(body), given) {
			return true
		}
	}
	return false
}
