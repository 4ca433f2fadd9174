package identity

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Leeway is how far the issuer's clock may be from ours, for each comparison.
// GitHub's iat is at times ahead of a well-kept clock.
const Leeway = 60 * time.Second

const (
	defaultMaxAge = 60 * time.Second
	// maxLifetime bounds exp - iat. GitHub's tokens live 5 minutes; a few with 6
	// hours, the length of a job, have been seen.
	maxLifetime = 6 * time.Hour
	maxTokenID  = 256
)

// lifetime is what the token says of its own times.
type lifetime struct{ issued, expires time.Time }

// checkTimes checks exp, iat and, where present, nbf (RFC 7519, 4.1.4 to 4.1.6),
// and our own limits on top: a token is meant for the moment it was asked for.
func checkTimes(c Claims, maxAge time.Duration, now time.Time) (lifetime, error) {
	expires, err := moment(c, "exp")
	if err != nil {
		return lifetime{}, err
	}
	issued, err := moment(c, "iat")
	if err != nil {
		return lifetime{}, err
	}
	begins := issued
	if _, present := c["nbf"]; present {
		if begins, err = moment(c, "nbf"); err != nil {
			return lifetime{}, err
		}
	}
	switch life, age := expires.Sub(issued), now.Sub(issued); {
	case life <= 0 || life > maxLifetime+Leeway:
		return lifetime{}, refuse(RuleLifetime, fmt.Sprintf("it says it lives %s; more than 0s and at most %s are allowed", life, maxLifetime), fixFresh)
	case !now.Before(expires.Add(Leeway)):
		return lifetime{}, refuse(RuleExpired, fmt.Sprintf("it expired %s ago", now.Sub(expires).Round(time.Second)), fixFresh)
	case age < -Leeway || now.Before(begins.Add(-Leeway)):
		return lifetime{}, refuse(RuleNotYet, "it becomes valid only later (iat or nbf lie ahead)",
			"compare the clocks of the issuer and of the exchange")
	case age > maxAge+Leeway:
		return lifetime{}, refuse(RuleAge, fmt.Sprintf("it was issued %s ago, at most %s are allowed", age.Round(time.Second), maxAge), fixFresh)
	}
	return lifetime{issued: issued, expires: expires}, nil
}

// lastMoment is the end of the year 9999, the last that RFC 3339 can write.
const lastMoment = 253402300799

// moment reads a NumericDate. RFC 7519 allows fractions; no issuer sends them, and
// one spelling per moment is worth more.
func moment(c Claims, name string) (time.Time, error) {
	number, _ := c[name].(json.Number)
	seconds, err := strconv.ParseUint(number.String(), 10, 63)
	if err != nil || seconds > lastMoment {
		return time.Time{}, refuse(RuleClaims, "the claim "+name+" is missing, or is not a whole number of seconds since 1970", fixIssuerToken)
	}
	return time.Unix(int64(seconds), 0), nil
}

// tokenID reads jti, which with the issuer's name is the key of the token's one use.
// Visible ASCII only: no database may see two spellings as one, or one as two.
func tokenID(c Claims) (string, error) {
	id, ok := c["jti"].(string)
	if !ok || id == "" || len(id) > maxTokenID {
		return "", refuse(RuleTokenID, fmt.Sprintf("the claim jti is missing, or is not a string of 1 to %d characters", maxTokenID), fixIssuerToken)
	}
	for _, r := range id {
		if r <= ' ' || r > '~' {
			return "", refuse(RuleTokenID, "the claim jti holds a character that is not visible ASCII", fixIssuerToken)
		}
	}
	return id, nil
}
