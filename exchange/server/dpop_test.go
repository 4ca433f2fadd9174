package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

func TestHostileProofsAreRefusedClearlyAndLeaseNothing(t *testing.T) {
	sc := stage(t)
	subject := subjectToken(t, sc.job(t, githubsim.JobSpec{}))
	form := tokenForm(subject).Encode()
	all := hostileProofs(t, subject)
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			status, body := sc.send(t, hostile{method: http.MethodPost, path: "/token", kind: formType, body: form, header: map[string][]string{"Dpop": p.header}})
			var refused client.ErrorResponse
			if err := json.Unmarshal([]byte(body), &refused); err != nil || status != http.StatusBadRequest || refused.Code != client.CodeInvalidDPoPProof {
				t.Errorf("answered %d %s", status, body)
			}
			if !strings.HasPrefix(refused.Description, "the DPoP proof ") || !strings.Contains(refused.Description, p.says) {
				t.Errorf("says %q, want %q", refused.Description, p.says)
			}
			if strings.Contains(body, marker) || len(body) > 400 {
				t.Errorf("the answer repeats what was sent: %s", body)
			}
		})
	}
	if lives, err := sc.store.Lives(t.Context()); err != nil || len(lives) != 0 || len(sc.gh.Issued()) != 0 {
		t.Errorf("leases: %v, %v; %d tokens", lives, err, len(sc.gh.Issued()))
	}
	// It was the proofs: none of them used the subject token up.
	status, body := sc.send(t, hostile{method: http.MethodPost, path: "/token", kind: formType, body: form, header: map[string][]string{"Dpop": {aDraft(edKey(t), subject).signed(t)}}})
	if status != http.StatusOK {
		t.Errorf("an honest proof: %d %s", status, body)
	}
	for _, p := range all {
		for _, proof := range p.header {
			if len(proof) > 100 && strings.Contains(sc.log.String(), proof[:100]) {
				t.Errorf("the log shows the proof %q", p.name)
			}
		}
	}
}

func TestAnHonestProofNamesItsHolder(t *testing.T) {
	s := &server.Server{URL: audience, Exchange: &exchange.Exchange{Now: time.Now}}
	p256, ed := ecKey(t, elliptic.P256(), "ES256"), edKey(t)
	for name, c := range map[string]struct {
		key    aKey
		change func(members)
		want   string // what RFC 7638 hashes
	}{
		"P-256":                    {p256, nil, `{"crv":"P-256","kty":"EC","x":"` + p256.jwk["x"].(string) + `","y":"` + p256.jwk["y"].(string) + `"}`},
		"Ed25519":                  {ed, nil, `{"crv":"Ed25519","kty":"OKP","x":"` + ed.jwk["x"].(string) + `"}`},
		"a URL with a query":       {ed, func(c members) { c["htu"] = audience + "/token?a=b#c" }, ""},
		"a fraction of a second":   {ed, func(c members) { c["iat"] = float64(time.Now().UnixMilli()) / 1000 }, ""},
		"claims that mean nothing": {ed, func(c members) { c["nonce"], c["exp"] = "n", 1 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := aDraft(c.key, "a.subject.token")
			if c.change != nil {
				c.change(d.claims)
			}
			got, err := server.Holder(s, withProof(d.signed(t)), secret.New("a.subject.token"))
			if err != nil || len(got) != 43 {
				t.Fatalf("%q, %v", got, err)
			}
			if hash := sha256.Sum256([]byte(c.want)); c.want != "" && got != b64(hash[:]) {
				t.Errorf("thumbprint %s", got)
			}
		})
	}
	if got, err := server.Holder(s, httptest.NewRequest(http.MethodPost, "/token", nil), secret.New("a.subject.token")); got != "" || err != nil {
		t.Errorf("without a proof: %q, %v", got, err)
	}
}

func TestAProofIsGoodForAMinuteEitherWay(t *testing.T) {
	now, k := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC), edKey(t)
	s := &server.Server{URL: audience, Exchange: &exchange.Exchange{Now: fixed(now)}}
	for seconds, says := range map[float64]string{-60.5: "older", -60: "", 0: "", 60: "", 60.5: "in the future"} {
		d := aDraft(k, "a.subject.token")
		d.claims["iat"] = float64(now.Unix()) + seconds
		_, err := server.Holder(s, withProof(d.signed(t)), secret.New("a.subject.token"))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v s: %v", seconds, err)
		}
	}
}

func withProof(proof string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	r.Header.Set("DPoP", proof)
	return r
}

// askWith asks as the step side does. Its requests travel to where the test listens,
// as by a proxy under the exchange's own name.
func (sc *scene) askWith(t testing.TB, key *client.Key, j *githubsim.Job) (*client.Grant, error) {
	t.Helper()
	c, err := client.New(audience, client.Options{HTTP: &http.Client{Transport: proxy(sc.url)}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subjectToken(t, j)), Task: "publish-release", Key: key})
}

type proxy string

func (p proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(string(p), "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func aHolder(t testing.TB) *client.Key {
	t.Helper()
	key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheSameKeyReplacesAndAnotherTripsTheWire(t *testing.T) {
	sc := stage(t)
	j, key, thief := sc.job(t, githubsim.JobSpec{}), aHolder(t), aHolder(t)
	lost, err := sc.askWith(t, key, j)
	if err != nil {
		t.Fatal(err)
	}
	given, err := sc.askWith(t, key, j)
	if err != nil || len(sc.gh.LiveTokens()) != 1 {
		t.Fatalf("asking again: %v, %d tokens live", err, len(sc.gh.LiveTokens()))
	}
	if before, after := sc.use(t, lost.Values["token"].Reveal(), "acme/widget"), sc.use(t, given.Values["token"].Reveal(), "acme/widget"); before != http.StatusUnauthorized || after != http.StatusOK {
		t.Errorf("the lost token gets %d, the new one %d", before, after)
	}

	for _, asker := range []struct {
		who string
		key *client.Key
	}{{"the thief", thief}, {"the holder, afterwards", key}, {"somebody without a key", nil}} {
		who := asker.who
		_, err = sc.askWith(t, asker.key, j)
		refused, ok := errors.AsType[*client.Error](err)
		if !ok || refused.Status != http.StatusForbidden || refused.Code != client.CodeAccessDenied || refused.AuditID == "" || !strings.Contains(refused.Description, "the job gets it no more") {
			t.Errorf("%s: %v", who, err)
		}
		if status := sc.use(t, given.Values["token"].Reveal(), "acme/widget"); status != http.StatusUnauthorized || len(sc.gh.LiveTokens()) != 0 {
			t.Errorf("after %s asked: %d, %d tokens live", who, status, len(sc.gh.LiveTokens()))
		}
	}
	l, _, err := sc.x.Inspect(t.Context(), given.LeaseToken)
	if err != nil || l.Reason != lease.ByTripwire || l.Holder != key.Thumbprint() {
		t.Errorf("the lease of %s: %s, %v", l.Holder, l.Reason, err)
	}
	if log := sc.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "tripwire") || strings.Contains(log, given.Values["token"].Reveal()) {
		t.Errorf("the log says %s", log)
	}
	if other, err := sc.askWith(t, thief, sc.job(t, githubsim.JobSpec{})); err != nil || len(sc.gh.LiveTokens()) != 1 {
		t.Errorf("another job: %v, %v", other, err)
	}
}

// FuzzProof cuts a piece out of an honest proof and puts another in its place, up to
// the whole of it. What passes says what the holder signed, in its spelling.
func FuzzProof(f *testing.F) {
	const subject = "a.subject.token"
	k := ecKey(f, elliptic.P256(), "ES256")
	honest := aDraft(k, subject).signed(f)
	s := &server.Server{URL: audience, Exchange: &exchange.Exchange{Now: fixed(time.Now())}, Log: slog.New(slog.DiscardHandler)}
	name, err := server.Holder(s, withProof(honest), secret.New(subject))
	if err != nil {
		f.Fatal(err)
	}
	signed := honest[:strings.LastIndexByte(honest, '.')]
	f.Add(uint16(0), uint16(0), "")
	f.Add(uint16(len(signed)), uint16(1), ".")
	for _, p := range hostileProofs(f, subject) {
		f.Add(uint16(0), uint16(len(honest)), strings.Join(p.header, ","))
	}
	f.Fuzz(func(t *testing.T, at, cut uint16, put string) {
		from := min(int(at), len(honest))
		to := min(from+int(cut), len(honest))
		changed := honest[:from] + put + honest[to:]
		got, err := server.Holder(s, withProof(changed), secret.New(subject))
		switch {
		case err == nil && (got != name || !strings.HasPrefix(changed, signed+".")):
			t.Fatalf("%q passes as %s", changed, got)
		case err != nil && (got != "" || len(err.Error()) > 300 || !strings.HasPrefix(err.Error(), "the DPoP proof ")):
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func fixed(at time.Time) func() time.Time { return func() time.Time { return at } }

// BenchmarkProof is what one proof costs the exchange. The floor is the signature.
func BenchmarkProof(b *testing.B) {
	const subject = "a.subject.token"
	s := &server.Server{URL: audience, Exchange: &exchange.Exchange{Now: fixed(time.Now())}}
	for name, k := range map[string]aKey{"P-256": ecKey(b, elliptic.P256(), "ES256"), "Ed25519": edKey(b)} {
		b.Run(name, func(b *testing.B) {
			r := withProof(aDraft(k, subject).signed(b))
			for b.Loop() {
				if _, err := server.Holder(s, r, secret.New(subject)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor P-256", func(b *testing.B) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		hash := sha256.Sum256([]byte(subject))
		signature, err := ecdsa.SignASN1(rand.Reader, private, hash[:])
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !ecdsa.VerifyASN1(&private.PublicKey, hash[:], signature) {
				b.Fatal("not verified")
			}
		}
	})
}
