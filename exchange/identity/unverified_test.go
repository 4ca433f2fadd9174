package identity_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/identity"
)

// The claims in testdata/claims are those of tokens as GitHub makes them, for each kind
// of event, subject and issuer. Signed, each is believed; and what is read of it without
// a signature is the same workload.
func TestClaimsOfEveryKindAreBelievedAndReadAlike(t *testing.T) {
	files, err := filepath.Glob("../../testdata/claims/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	v := verifierAt(t, newNetwork(t), atPresent)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			token, text, issuer := tokenOf(t, file)
			verified, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			for form, given := range map[string]string{"the token": token + "\n", "its claims": text} {
				claims, err := identity.ReadClaims(given)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				read, err := identity.Unverified(issuer, claims)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				want := identity.Workload{Issuer: verified.Issuer, Claims: verified.Claims, Job: verified.Job}
				if diff := cmp.Diff(want, read); diff != "" {
					t.Errorf("%s (-verified +read):\n%s", form, diff)
				}
			}
		})
	}
}

// tokenOf signs the claims of a file as their issuer does, for now and for us.
func tokenOf(t *testing.T, file string) (token, text string, issuer identity.Issuer) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		t.Fatal(err)
	}
	fresh := honestClaims(present)
	for _, name := range []string{"aud", "nbf", "iat", "exp"} {
		claims[name] = fresh[name]
	}
	key := map[any]string{gheURL: "ghe-1"}[claims["iss"]]
	for _, i := range issuers() {
		if i.URL == claims["iss"] {
			issuer = i
		}
	}
	text = encode(t, claims)
	return forgeFor(t).sign(t, key, encode(t, honestHeader()), text), text, issuer
}

func TestWhatTheVerifierWouldRefuseIsNotReadEither(t *testing.T) {
	for name, c := range map[string]struct{ text, rule string }{
		"nothing":                    {"", identity.RuleForm},
		"a token cut off":            {"eyJhbGciOiJSUzI1NiJ9.eyJ", identity.RuleForm},
		"a name twice":               {`{"repository_id": "1", "REPOSITORY_ID": "2"}`, identity.RuleJSON},
		"two objects":                {`{"a": "1"} {"b": "1"}`, identity.RuleJSON},
		"a broken escape":            {`{"ref": "\ud800"}`, identity.RuleJSON},
		"an object that is too long": {`{"a": "` + string(make([]byte, 16<<10)) + `"}`, identity.RuleSize},
		"a number for an id":         {`{"repository_id": 456789}`, identity.RuleClaims},
		"a list for a text":          {`{"event_name": ["push"]}`, identity.RuleClaims},
		"no repository":              {`{"run_id": "1", "run_attempt": "1", "check_run_id": "1"}`, identity.RuleJob},
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := identity.ReadClaims(c.text)
			if err == nil {
				_, err = identity.Unverified(identity.Issuer{Name: "github", Kind: "github"}, claims)
			}
			if refusal, ok := errors.AsType[*identity.Refusal](err); !ok || refusal.Rule != c.rule {
				t.Errorf("want the rule %q, got %v", c.rule, err)
			}
		})
	}
	if _, err := identity.Unverified(identity.Issuer{Name: "x", Kind: "buildhost"}, identity.Claims{}); err == nil {
		t.Error("a kind that nobody knows is read")
	}
}

// Whatever is given as claims: no panic, and what is read can be read again the same.
func FuzzReadClaims(f *testing.F) {
	f.Add(`{"repository_id": "456789", "run_id": "1", "run_attempt": "1", "check_run_id": 1}`)
	f.Add(`{"a": [1, true, null, {"b": ""}]}`)
	f.Add(honest(f, present))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := identity.ReadClaims(text)
		if err != nil {
			if refusal, ok := errors.AsType[*identity.Refusal](err); !ok || !descriptionAlphabet.MatchString(refusal.Reason) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		again, err := identity.ReadClaims(encode(t, claims))
		if diff := cmp.Diff(claims, again); err == nil && diff != "" {
			t.Errorf("read again, %v: %s", err, diff)
		}
		w, err := identity.Unverified(identity.Issuer{Name: "github", Kind: "github"}, claims)
		if (err == nil) != (w.Job.Key != "") || w.TokenID != "" || !w.Expires.IsZero() {
			t.Errorf("%+v, %v", w, err)
		}
	})
}
