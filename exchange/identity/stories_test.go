package identity_test

import (
	"cmp"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/stepkey/stepkey/exchange/identity"
)

// story is one entry of testdata/tokens; hostile.yaml explains the fields.
type story struct {
	Story       string            `yaml:"story"`
	Header      map[string]any    `yaml:"header"`
	Claims      map[string]any    `yaml:"claims"`
	Times       map[string]string `yaml:"times"`
	AddToHeader string            `yaml:"add_to_header"`
	AddToClaims string            `yaml:"add_to_claims"`
	HeaderText  *string           `yaml:"header_text"`
	ClaimsText  *string           `yaml:"claims_text"`
	Many        int               `yaml:"many"`
	Key         string            `yaml:"key"`
	Spelled     string            `yaml:"spelled"`
	Token       *string           `yaml:"token"`

	Rule string `yaml:"rule"` // hostile
	Says string `yaml:"says"`

	Job    string `yaml:"job"` // honest: same, other, weak
	Name   string `yaml:"name"`
	Issuer string `yaml:"issuer"`
}

func stories(t testing.TB, file string) []story {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "tokens", file))
	if err != nil {
		t.Fatal(err)
	}
	var list []story
	if err := yaml.UnmarshalWithOptions(text, &list, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	seen := map[string]bool{}
	for _, s := range list {
		if s.Story == "" || seen[s.Story] {
			t.Fatalf("%s: the story %q has no name or the name of another", file, s.Story)
		}
		seen[s.Story] = true
	}
	return list
}

// build makes the token that the story tells of.
func (s story) build(t testing.TB) string {
	t.Helper()
	if s.Token != nil {
		return *s.Token
	}
	claims := honestClaims(present)
	for name, offset := range s.Times {
		away, err := time.ParseDuration(offset)
		if err != nil {
			t.Fatal(err)
		}
		claims[name] = present.Add(away).Unix()
	}
	if s.Many > 0 {
		claims["many"] = make([]int, s.Many)
	}
	header := text(t, honestHeader(), s.Header, s.AddToHeader, s.HeaderText)
	body := text(t, claims, s.Claims, s.AddToClaims, s.ClaimsText)
	if resign, ok := beforeSigning[s.Spelled]; ok {
		return forgeFor(t).sign(t, s.Key, header, resign(body))
	}
	token := forgeFor(t).sign(t, s.Key, header, body)
	if s.Spelled == "" {
		return token
	}
	respell, ok := afterSigning[s.Spelled]
	if !ok {
		t.Fatalf("no way to spell a token %q", s.Spelled)
	}
	respelled := respell(strings.Split(token, "."))
	if respelled == token {
		t.Fatalf("%q did not change the token", s.Spelled)
	}
	return respelled
}

func text(t testing.TB, honest, changes map[string]any, more string, whole *string) string {
	t.Helper()
	if whole != nil {
		return *whole
	}
	for name, value := range changes {
		if honest[name] = value; value == nil {
			delete(honest, name)
		}
	}
	return strings.TrimSuffix(encode(t, honest), "}") + more + "}"
}

// beforeSigning changes the claims' text; the right key signs the result.
var beforeSigning = map[string]func(string) string{
	"signed with a byte that is not UTF-8": func(c string) string { return strings.Replace(c, "octocat", "octo\xffcat", 1) },
	"signed with a very long issuer": func(c string) string {
		return strings.Replace(c, githubURL, "https://evil.example/"+strings.Repeat("very-long/", 1000), 1)
	},
}

// afterSigning respells the finished token, given as its three parts.
var afterSigning = map[string]func([]string) string{
	"16 KiB appended to the signature": func(p []string) string { return join(p[0], p[1], p[2]+strings.Repeat("A", 16<<10)) },
	"two more parts":                   func(p []string) string { return join(p[0], p[1], p[2], "AAAA", "AAAA") },
	"as a JSON object": func(p []string) string {
		return `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`
	},
	"Bearer in front":       func(p []string) string { return "Bearer " + join(p...) },
	"padded":                func(p []string) string { return join(p...) + "==" },
	"other unused bits":     func(p []string) string { return spellings(join(p...))[1] },
	"LF in the header":      func(p []string) string { return join(p[0][:9]+"\n"+p[0][9:], p[1], p[2]) },
	"CRLF in the claims":    func(p []string) string { return join(p[0], p[1][:9]+"\r\n"+p[1][9:], p[2]) },
	"LF in the signature":   func(p []string) string { return join(p[0], p[1], p[2][:9]+"\n"+p[2][9:]) },
	"LF at the end":         func(p []string) string { return join(p...) + "\n" },
	"space in front":        func(p []string) string { return " " + join(p...) },
	"tab at the end":        func(p []string) string { return join(p...) + "\t" },
	"NUL at the end":        func(p []string) string { return join(p...) + "\x00" },
	"fullwidth letter":      func(p []string) string { return join("\uFF45"+p[0][1:], p[1], p[2]) },
	"without the signature": func(p []string) string { return join(p[0], p[1], "") },
	"last character lost":   func(p []string) string { return join(p[0], p[1], p[2][:len(p[2])-1]) },
	"without the claims":    func(p []string) string { return join(p[0], "", p[2]) },
	"half the signature":    func(p []string) string { return join(p[0], p[1], p[2][:len(p[2])/8*4]) },
	"signature of zeros":    func(p []string) string { return join(p[0], p[1], segment(strings.Repeat("\x00", 256))) },
	"zero bytes appended":   func(p []string) string { return join(p[0], p[1], segment(unsegment(p[2])+"\x00\x00")) },
	"another header after signing": func(p []string) string {
		return join(segment(strings.Replace(unsegment(p[0]), "JWT", "jwt", 1)), p[1], p[2])
	},
	"another repository id after signing": func(p []string) string {
		return join(p[0], segment(strings.Replace(unsegment(p[1]), "456789", "456780", 1)), p[2])
	},
	"one bit flipped": func(p []string) string {
		signature := []byte(unsegment(p[2]))
		signature[100] ^= 1
		return join(p[0], p[1], segment(string(signature)))
	},
	// The signature alone may lack the two characters in which the alphabets differ,
	// so one of them is put in front of it.
	"standard base64": func(p []string) string { return join(p[0], p[1], "+/"+p[2][2:]) },
}

func join(parts ...string) string { return strings.Join(parts, ".") }

func unsegment(part string) string {
	decoded, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		panic(err)
	}
	return string(decoded)
}

// spellings are the 16 ways to write a token of RS256 and 2048 bits that lenient
// decoders take for one: the last character has four unused bits. The honest one is
// first.
func spellings(token string) []string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	all := make([]string, 16)
	for bits := range all {
		all[bits] = token[:len(token)-1] + alphabet[last|bits:][:1]
	}
	return all
}

// descriptionAlphabet is what error_description may hold (RFC 6749, 5.2).
var descriptionAlphabet = regexp.MustCompile(`\A[\x20-\x21\x23-\x5B\x5D-\x7E]+\z`)

// beforeKeys are the rules that must be decided without any request.
var beforeKeys = map[string]bool{"size": true, "form": true, "json": true, "issuer": true, "header": true}

func TestHostileTokensAreRefusedByTheRuleTheyBreak(t *testing.T) {
	list := stories(t, "hostile.yaml")
	if len(list) < 60 {
		t.Fatalf("only %d stories were read", len(list))
	}
	rules := map[string]bool{}
	for _, s := range list {
		rules[s.Rule] = true
		t.Run(s.Story, func(t *testing.T) { s.refused(t) })
	}
	for _, rule := range []string{
		identity.RuleSize, identity.RuleForm, identity.RuleJSON, identity.RuleIssuer, identity.RuleHeader,
		identity.RuleKey, identity.RuleSignature, identity.RuleLifetime, identity.RuleExpired, identity.RuleNotYet,
		identity.RuleAge, identity.RuleAudience, identity.RuleClaims, identity.RuleTokenID, identity.RuleJob,
	} {
		if !rules[rule] {
			t.Errorf("no story breaks the rule %q", rule)
		}
	}
}

func (s story) refused(t *testing.T) {
	n := newNetwork(t)
	token := s.build(t)
	w, err := verifierAt(t, n, atPresent).Verify(t.Context(), token)
	refusal, ok := errors.AsType[*identity.Refusal](err)
	if !ok {
		t.Fatalf("want a refusal, got workload %+v and error %v", w, err)
	}
	if refusal.Rule != s.Rule {
		t.Errorf("refused by the rule %q, want %q: %v", refusal.Rule, s.Rule, err)
	}
	if !strings.Contains(refusal.Reason, s.Says) {
		t.Errorf("the reason does not say %q: %s", s.Says, refusal.Reason)
	}
	if !descriptionAlphabet.MatchString(refusal.Reason) || !descriptionAlphabet.MatchString(refusal.Fix) {
		t.Errorf("not fit for error_description: reason %q, fix %q", refusal.Reason, refusal.Fix)
	}
	if len(refusal.Reason) > 300 || errors.Is(err, identity.ErrUnavailable) || w.TokenID != "" || w.Claims != nil {
		t.Errorf("a refusal is short, final and without a workload: %v, %+v", err, w)
	}
	if leak := leaks(token, err.Error()); leak != "" || strings.Contains(err.Error(), "canary") {
		t.Errorf("the error shows the token's %q: %v", leak, err)
	}
	want, chosen := fetchLength, refusal.Issuer != ""
	if beforeKeys[s.Rule] {
		want = 0
	}
	if got := n.requests(); got != want {
		t.Errorf("%d requests went out, want %d: %v", got, want, n.asked)
	}
	if early := s.Rule == "size" || s.Rule == "form" || s.Rule == "json" || s.Rule == "issuer"; chosen == early {
		t.Errorf("the refusal names the issuer %q", refusal.Issuer)
	}
}

func TestHonestTokensAreBelieved(t *testing.T) {
	n := newNetwork(t)
	v := verifierAt(t, n, atPresent)
	plain, err := v.Verify(t.Context(), honest(t, present))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stories(t, "honest.yaml") {
		t.Run(s.Story, func(t *testing.T) {
			w, err := v.Verify(t.Context(), s.build(t))
			if err != nil {
				t.Fatal(err)
			}
			same := w.Job.Key == plain.Job.Key
			if same != (s.Job == "same") || w.Job.Weak != (s.Job == "weak") {
				t.Errorf("want the job %q, got %+v beside %+v", s.Job, w.Job, plain.Job)
			}
			if s.Name != "" && w.Job.Name != s.Name {
				t.Errorf("the job is called %q, want %q", w.Job.Name, s.Name)
			}
			if want := cmp.Or(s.Issuer, "github"); w.Issuer != want {
				t.Errorf("the issuer is %q, want %q", w.Issuer, want)
			}
		})
	}
	if got, want := n.requests(), len(issuers())*fetchLength; got != want {
		t.Errorf("%d requests went out, want %d: one fetch for each issuer", got, want)
	}
}

func TestAWorkloadHoldsWhatTheTokenSays(t *testing.T) {
	w, err := verifierAt(t, newNetwork(t), atPresent).Verify(t.Context(), honest(t, present))
	if err != nil {
		t.Fatal(err)
	}
	if w.TokenID != "0f6c1c2e-canary-of-the-jti" || !w.IssuedAt.Equal(present.Add(-5*time.Second)) {
		t.Errorf("token id %q, issued at %s", w.TokenID, w.IssuedAt)
	}
	if want := present.Add(295*time.Second + identity.Leeway); !w.Expires.Equal(want) {
		t.Errorf("expires %s, want exp and the leeway: %s", w.Expires, want)
	}
	if w.Job.Repository != "456789" || w.Job.Weak || w.Job.Name != "acme/widget run 18170960955.1 job 51725241954" {
		t.Errorf("job %+v", w.Job)
	}
	if ref, ok := w.Claims.Text("ref"); !ok || ref != "refs/tags/v1.2.3" {
		t.Errorf("claims: ref is %q", ref)
	}
}

// Whoever takes the workload must know what the token is bound to; only so is it ours.
func TestAWorkloadSaysWhatItsTokenIsBoundTo(t *testing.T) {
	const binding = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
	v := verifierAt(t, newNetwork(t), atPresent)
	other, err := v.For("sts.example")
	if err != nil {
		t.Fatal(err)
	}
	for aud, want := range map[string]struct {
		v       *identity.Verifier
		binding string
	}{
		audience:                       {v, ""},
		audience + "/bound/" + binding: {v, binding},
		"sts.example":                  {other, ""},
		"sts.example/bound/" + binding: {other, binding},
	} {
		token := story{Claims: map[string]any{"aud": aud}}.build(t)
		for _, verifier := range []*identity.Verifier{v, other} {
			w, err := verifier.Verify(t.Context(), token)
			switch {
			case verifier == want.v && (err != nil || w.Binding != want.binding):
				t.Errorf("%s: bound to %q, %v", aud, w.Binding, err)
			case verifier != want.v && ruleOf(t, err) != identity.RuleAudience:
				t.Errorf("%s at the other door: %+v, %v", aud, w, err)
			}
		}
	}
}

func TestOfSixteenSpellingsOfOneSignatureOnlyOneIsTaken(t *testing.T) {
	v := verifierAt(t, newNetwork(t), atPresent)
	for n, spelling := range spellings(honest(t, present)) {
		_, err := v.Verify(t.Context(), spelling)
		switch {
		case n == 0 && err != nil:
			t.Errorf("the honest spelling is refused: %v", err)
		case n > 0 && ruleOf(t, err) != identity.RuleForm:
			t.Errorf("spelling %d is refused by %v", n, err)
		}
	}
}

func TestTheTokenIsRefusedFromTheMomentThatExpiresNames(t *testing.T) {
	now := present
	v := verifierAt(t, newNetwork(t), func() time.Time { return now })
	s := story{Times: map[string]string{"iat": "0s", "exp": "30s"}}
	token := s.build(t)
	w, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	now = w.Expires.Add(-time.Nanosecond)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("a moment before: %v", err)
	}
	now = w.Expires
	if _, err := v.Verify(t.Context(), token); ruleOf(t, err) != identity.RuleExpired {
		t.Errorf("at that moment: %v", err)
	}
}
