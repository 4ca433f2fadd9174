package registry

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Handlers are what this backend answers on the exchange's public listener: tokens, to
// whoever shows a password (it is the realm in the registry's configuration), and the
// public keys, for the operator to put where the registry reads them.
func (b *Backend) Handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /registry/token":  http.HandlerFunc(b.serveToken),
		"POST /registry/token": http.HandlerFunc(b.serveToken),
		"GET /registry/keys":   http.HandlerFunc(b.serveKeys),
	}
}

// Why a password is not good is the same for all, so that nobody learns which leases are.
var notGood = refusal{invalidGrant, "the username and the password are not those of a lease that is live; ask the exchange for a new one"}

func (b *Backend) serveToken(w http.ResponseWriter, r *http.Request) {
	now := b.now()
	a, fault := readAsk(w, r)
	switch {
	case fault != (refusal{}):
		refuse(w, fault)
		return
	case a.service != "" && a.service != b.limits.Service:
		refuse(w, refusal{invalidRequest, "the service is not the one that this exchange signs for; its configuration and the registry's must have the same"})
		return
	}
	l, ours := b.login(a.password)
	if !ours || a.username != "" && a.username != string(l.Lease) || l.over(now) {
		refuse(w, notGood)
		return
	}
	good, err := b.usable(r.Context(), l.Lease)
	switch {
	case err != nil: // logged where leases are begun and ended; whoever asks cannot help it
		refuse(w, refusal{unavailable, "the exchange cannot look now whether the lease is live; try again"})
		return
	case !good:
		refuse(w, notGood)
		return
	}
	signed, err := b.token(l, a.scopes, now)
	if err != nil {
		refuse(w, refusal{unavailable, "the exchange cannot sign a token now; try again"})
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"token": signed.text, "access_token": signed.text, "token_type": "Bearer",
		"expires_in": int(signed.life.Seconds()), "scope": spell(signed.access),
	})
}

func spell(all []access) string {
	scopes := make([]string, 0, len(all))
	for _, one := range all {
		scopes = append(scopes, one.Type+":"+one.Name+":"+strings.Join(one.Actions, ","))
	}
	return strings.Join(scopes, " ")
}

// refuse answers in the form of RFC 6749 and in the registry's own, of which clients show
// one or the other. A login that is not good is 401 also where that RFC has 400, since
// clients of registries tell people what is wrong with a login only then.
func refuse(w http.ResponseWriter, why refusal) {
	status, code := http.StatusBadRequest, "DENIED"
	switch why.code {
	case unavailable:
		status, code = http.StatusServiceUnavailable, "UNAVAILABLE"
		w.Header().Set("Retry-After", "1")
	case invalidGrant:
		status, code = http.StatusUnauthorized, "UNAUTHORIZED"
		w.Header().Set("WWW-Authenticate", `Basic realm="stepkey", charset="UTF-8"`)
	}
	answer(w, status, map[string]any{
		"error": why.code, "error_description": why.words,
		"errors": []map[string]string{{"code": code, "message": why.words}},
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever hung up wants no answer
}

func (b *Backend) serveKeys(w http.ResponseWriter, _ *http.Request) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range b.keys {
		set.Keys = append(set.Keys, key.signing.Public())
	}
	answer(w, http.StatusOK, set)
}
