package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// theWorld is one story's exchange and ID-token service. Unless scripted, they
// say yes. Both are strict: an ID token works once and only with the audience it
// was asked for.
type theWorld struct {
	server   *httptest.Server
	shut     atomic.Bool // nobody is let in any more
	arrivals map[string]chan struct{}

	mu      sync.Mutex
	next    map[string][]scripted
	log     strings.Builder
	issued  int
	unspent map[string]string // ID token -> audience
	keys    []string          // the holders' public keys, in the order that they came
	bound   []string          // what tokens were bound to, in the order that it came
	minted  []string          // the audiences that the service was asked for
	living  living            // the credentials that were given and not taken back
}

// scripted is one answer: a status with a body, or something special.
type scripted struct {
	special string // drop, hang
	status  int
	body    string
	header  [][2]string
}

// The credential that is given unless the story says otherwise.
const (
	standardGrant = `{"access_token":"ghs_canary","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
"token_type":"Bearer","expires_in":300,"scope":"publish-release",
"lease":{"id":"lease_01","token":"skl_handle","ends_at":"2026-11-23T15:05:00Z","dies_at":"2026-11-23T16:00:30Z","revocable":true,"granted":"contents: write on acme/widget"},
"credential":{"kind":"github","values":{"token":"ghs_canary"},"env":{"GH_TOKEN":"ghs_canary","GITHUB_TOKEN":"ghs_canary"}}}`
	standardRevocation = `{"leases":[{"id":"lease_01","state":"revoked"}]}`
)

func newWorld() *theWorld {
	w := &theWorld{next: map[string][]scripted{}, unspent: map[string]string{}, arrivals: map[string]chan struct{}{}}
	mux := http.NewServeMux()
	for path, answer := range map[string]http.HandlerFunc{"/idtoken": w.idToken, "/token": w.token, "/revoke": w.revoke, "/introspect": w.introspect} {
		w.arrivals[path] = make(chan struct{}, 100)
		mux.HandleFunc(path, answer)
	}
	w.server = httptest.NewUnstartedServer(mux)
	w.server.Listener = &door{w.server.Listener, &w.shut}
	w.server.Start()
	return w
}

// A door hangs up on whoever comes once it is shut. To close the listener would
// free its port for another story's exchange, which would then answer.
type door struct {
	net.Listener
	shut *atomic.Bool
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil || !d.shut.Load() {
			return conn, err
		}
		_ = conn.Close()
	}
}

// close does not wait for handlers that hang: their callers are gone with the story.
func (w *theWorld) close() {
	w.server.CloseClientConnections()
	w.server.Close()
}

func (w *theWorld) script(path string, s scripted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next[path] = append(w.next[path], s)
}

func (w *theWorld) takeLog() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.log.Reset()
	return w.log.String()
}

// noted writes a line of the log and takes the scripted answer, if there is one.
func (w *theWorld) noted(path, format string, args ...any) scripted {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.log, path+" "+format+"\n", args...)
	w.arrivals[path] <- struct{}{}
	if len(w.next[path]) == 0 {
		return scripted{}
	}
	s := w.next[path][0]
	w.next[path] = w.next[path][1:]
	return s
}

func (s scripted) answer(rw http.ResponseWriter, r *http.Request, otherwise string) {
	switch s.special {
	case "drop":
		panic(http.ErrAbortHandler)
	case "hang":
		<-r.Context().Done()
		return
	}
	for _, h := range s.header {
		rw.Header().Set(h[0], h[1])
	}
	rw.WriteHeader(cmp.Or(s.status, http.StatusOK))
	if s.status == 0 {
		s.body = otherwise
	}
	_, _ = io.WriteString(rw, s.body)
}

func (w *theWorld) idToken(rw http.ResponseWriter, r *http.Request) {
	s := w.noted("/idtoken", "api-version=%s", r.URL.Query().Get("api-version"))
	audience := r.URL.Query().Get("audience")
	if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer runtime-token" || audience == "" {
		s = scripted{status: http.StatusUnauthorized}
	}
	w.mu.Lock()
	w.issued++
	token := fmt.Sprintf("eyJh.%s.c2ln", base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "id-token-%d", w.issued)))
	w.unspent[token] = audience
	w.minted = append(w.minted, w.named(audience))
	w.mu.Unlock()
	body, _ := json.Marshal(map[string]string{"value": token})
	s.answer(rw, r, string(body))
}

// spend accepts an ID token once. Its number is what the log shows.
func (w *theWorld) spend(token string) (name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	audience, ok := w.unspent[token]
	if !ok {
		return "unknown or used ID token", fmt.Errorf("unknown or used ID token")
	}
	delete(w.unspent, token)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	return tokenName(payload) + " for " + w.named(audience), err
}

// named writes an audience as stories do: EXCHANGE/bound/1 is bound to what the first
// bound token was bound to.
func (w *theWorld) named(audience string) string {
	plain, binding, isBound := strings.Cut(strings.ReplaceAll(audience, w.server.URL, "EXCHANGE"), "/bound/")
	if !isBound {
		return plain
	}
	if !slices.Contains(w.bound, binding) {
		w.bound = append(w.bound, binding)
	}
	return fmt.Sprintf("%s/bound/%d", plain, 1+slices.Index(w.bound, binding))
}

// takeMinted is what the service was asked for since the last time, a line each.
func (w *theWorld) takeMinted() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.minted = nil }()
	return strings.Join(append(w.minted, ""), "\n")
}

// heldTo demands that a bound token is bound to the request that it came with and to the
// key that was proven. One that is not bound at all is told in the log.
func (w *theWorld) heldTo(name, holder string, r *http.Request) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var number, key int
	plain, binding, isBound := strings.Cut(name, "/bound/")
	if !isBound {
		return name + ", not bound,", nil
	}
	if _, err := fmt.Sscanf(holder+" "+binding, "key-%d %d", &key, &number); err != nil {
		return name, err
	}
	thumbprint := sha256.Sum256([]byte(w.keys[key-1])) // its members stand as RFC 7638 has them
	want := client.Binding(base64.RawURLEncoding.EncodeToString(thumbprint[:]), r.PostFormValue("scope"), r.PostFormValue("authorization_details"))
	if w.bound[number-1] != want {
		return name, fmt.Errorf("the ID token is bound to another request")
	}
	return plain, nil
}

// holder numbers the keys that proofs are made with. Whether a signature
// holds is for the exchange's own tests; here a proof must be for this request.
func (w *theWorld) holder(r *http.Request) (string, error) {
	var header struct {
		JWK json.RawMessage `json:"jwk"`
	}
	var claims struct {
		URL     string `json:"htu"`
		Made    int64  `json:"iat"`
		Subject string `json:"sth"`
	}
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	for i, into := range []any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[min(i, len(parts)-1)])
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			return "nobody", err
		}
	}
	hash := sha256.Sum256([]byte(r.PostFormValue("subject_token")))
	if claims.Subject != base64.RawURLEncoding.EncodeToString(hash[:]) || claims.URL != w.server.URL+"/token" || time.Unix(claims.Made, 0).UTC().Format(time.RFC3339) != storyBegins {
		return "nobody", fmt.Errorf("the proof is not for this request")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.keys, string(header.JWK)) {
		w.keys = append(w.keys, string(header.JWK))
	}
	return fmt.Sprintf("key-%d", 1+slices.Index(w.keys, string(header.JWK))), nil
}

const invalidGrant = `{"error":"invalid_grant","error_description":"unknown or used ID token"}`

func (w *theWorld) token(rw http.ResponseWriter, r *http.Request) {
	name, err := w.spend(r.PostFormValue("subject_token"))
	details := ""
	if d := r.PostFormValue("authorization_details"); d != "" {
		details = " " + d
	}
	holder, keyErr := w.holder(r)
	name, boundErr := w.heldTo(name, holder, r)
	s := w.noted("/token", "scope=%s with %s by %s%s", r.PostFormValue("scope"), name, holder, details)
	if err != nil || keyErr != nil || boundErr != nil || r.PostFormValue("grant_type") != client.GrantTypeTokenExchange || r.PostFormValue("subject_token_type") != client.TokenTypeIDToken {
		s = scripted{status: http.StatusBadRequest, body: invalidGrant}
	}
	w.living.given(s)
	s.answer(rw, r, standardGrant)
}

func (w *theWorld) revoke(rw http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("token_type_hint") != client.TokenTypeJob {
		s := w.noted("/revoke", "lease token %s", r.PostFormValue("token"))
		w.living.takenBack(s, r.PostFormValue("token"))
		s.answer(rw, r, standardRevocation)
		return
	}
	name, err := w.spend(r.PostFormValue("token"))
	what := "job of " + name
	if id := r.PostFormValue("lease"); id != "" {
		what = "lease " + id + " of the " + what
	}
	s := w.noted("/revoke", "%s", what)
	if err != nil || strings.Contains(name, "/bound/") { // which is for one request of a credential
		s = scripted{status: http.StatusBadRequest, body: invalidGrant}
	}
	w.living.takenBack(s, "")
	s.answer(rw, r, standardRevocation)
}
