package registry

import (
	"fmt"
	"io"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// claims of a token, as distribution's specification has them. Lists that are empty are
// written: a token that grants nothing proves a login and no more.
type claims struct {
	jwt.Claims
	Access []access `json:"access"`
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// token is signed, and good until its end.
type token struct {
	text   string
	access []access
	life   time.Duration // in whole seconds, more than none
}

// token signs what of a login's grants was asked for, for no longer than the login lasts.
// now is from before the lease was looked at, so that a token is never younger than what
// was known of it.
func (b *Backend) token(l login, asked []grant, now time.Time) (token, error) {
	end := now.Truncate(time.Second).Add(tokenLife)
	if last := time.Unix(l.Until, 0); last.Before(end) {
		end = last
	}
	number := make([]byte, 16)
	if _, err := io.ReadFull(b.rand, number); err != nil {
		return token{}, fmt.Errorf("numbering a token: %w", err)
	}
	key := b.keys[0].signing
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return token{}, fmt.Errorf("signing a token: %w", err)
	}
	granted := allowed(l.Grants, asked)
	text, err := jwt.Signed(signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: b.limits.Issuer, Subject: string(l.Lease), Audience: jwt.Audience{b.limits.Service}, ID: encoding.EncodeToString(number),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(end),
		},
		Access: granted,
	}).Serialize()
	if err != nil {
		return token{}, fmt.Errorf("signing a token: %w", err)
	}
	return token{text: text, access: granted, life: end.Sub(now.Truncate(time.Second))}, nil
}

// allowed is what was asked for and is granted: never nil, each repository once.
func allowed(grants, asked []grant) []access {
	all := []access{}
	for _, g := range grants {
		var want []string
		for _, a := range asked {
			if a.Name == g.Name {
				want = append(want, a.Actions...)
			}
		}
		if both := within(g.Actions, want); len(both) > 0 {
			all = append(all, access{"repository", g.Name, both})
		}
	}
	return all
}
