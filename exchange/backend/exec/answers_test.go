package exec_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/internal/secret"
)

const canary = "canary-7f3a91"

// What the exchange may conclude from an answer to issue: that there is a credential, that
// there is none, or nothing, and then the way back is kept.
func TestAnAnswerIsBelievedAsFarAsItFits(t *testing.T) {
	for name, c := range map[string]struct{ status, answer, says, known string }{
		"values alone":           {"0", `{"values":{"token":"` + canary + `"}}`, "", "issued"},
		"all of it":              {"0", `{"values":{"token":"a","user":"b"},"env":{"T":"token"},"handle":"h","granted":{"can":["read"]},"dies_at":"2026-11-23T15:10:00Z"}`, "", "issued"},
		"two public ones alike":  {"0", `{"values":{"user":"a","owner":"a","token":"b"},"public":["user","owner"]}`, "", "issued"},
		"white space":            {"0", "\n {\"values\": {\"token\": \"a\"}}\n\n", "", "issued"},
		"nothing":                {"0", ``, "not one JSON object", ""},
		"words":                  {"0", `token: ` + canary, "not one JSON object", ""},
		"a list":                 {"0", `["` + canary + `"]`, "not one JSON object", ""},
		"null":                   {"0", `null`, "not one JSON object", ""},
		"two objects":            {"0", `{"values":{"token":"a"}}{}`, "not one JSON object", ""},
		"an unknown key":         {"0", `{"values":{"token":"a"},"` + canary + `":1}`, "a key that is not known", ""},
		"a key in other letters": {"0", `{"Values":{"token":"a"}}`, "a key that is not known", ""},
		"a key twice":            {"0", `{"values":{"token":"a"},"values":{"token":"b"}}`, "one twice", ""},
		"a key twice inside":     {"0", `{"values":{"token":"a","token":"b"}}`, "one twice", ""},
		"a number as value":      {"0", `{"values":{"token":12345678901}}`, "not of the type", ""},
		"a time that is none":    {"0", `{"values":{"token":"a"},"dies_at":"` + canary + `"}`, "not of the type", ""},
		"values and a status":    {"3", `{"values":{"token":"a"}}`, "exit status 3", ""},
		"no values":              {"0", `{"handle":"h"}`, "no values", "nothing"},
		"an empty value":         {"0", `{"values":{"token":""}}`, "is empty", "nothing"},
		"a value with a zero":    {"0", `{"values":{"token":"a\u0000b"}}`, "zero byte", "nothing"},
		"a name that is none":    {"0", `{"values":{"` + canary + `":"a"}}`, "its name is not of", "nothing"},
		"env of no value":        {"0", `{"values":{"token":"a"},"env":{"T":"` + canary + `"}}`, "names a value that it does not have", "nothing"},
		"env that no shell has":  {"0", `{"values":{"token":"a"},"env":{"T=x;":"token"}}`, "names a value that it does not have", "nothing"},
		"another verb's":         {"0", `{"values":{"token":"a"},"gone":true}`, "belongs to another verb", "nothing"},
		"wider":                  {"0", `{"values":{"token":"a"},"granted":{"can":["read","write"]}}`, "something else than was asked", "nothing"},
		"not what it can be":     {"0", `{"values":{"token":"a"},"granted":{"can":["` + canary + `"]}}`, "cannot be", "nothing"},
		"granted nothing":        {"0", `{"values":{"token":"a"},"granted":{}}`, "something else than was asked", "nothing"},
		"longer":                 {"0", `{"values":{"token":"a"},"dies_at":"2026-11-23T16:00:00Z"}`, "should live now and be gone by", "nothing"},
		"dead already":           {"0", `{"values":{"token":"a"},"dies_at":"2026-11-23T15:00:00Z"}`, "should live now and be gone by", "nothing"},
		"none, it says":          {"1", `{"error":{"message":"the disk is\n\tfull \u001b[31m","not_created":true}}`, `it says "the disk is full [31m"`, "nothing"},
		"none, for now":          {"0", `{"error":{"not_created":true,"unavailable":true}}`, "did not say why", "nothing"},
		"who knows":              {"0", `{"error":{"message":"no answer","unavailable":true}}`, "no answer", ""},
		"lost":                   {"0", `{"error":{"message":"no answer","lost":true}}`, "no answer", "lost"},
		"none and lost":          {"0", `{"error":{"message":"well","not_created":true,"lost":true}}`, "well", ""},
		"none and here it is":    {"0", `{"values":{"token":"` + canary + `"},"error":{"message":"oh ` + canary + `","not_created":true}}`, "oh [redacted]", ""},
		"a handle in a value":    {"0", `{"values":{"token":"tok1.SECRETSECRET"},"handle":"tok1","error":{"message":"cannot store tok1.SECRETSECRET"}}`, `it says "cannot store [redacted]"`, ""},
		"one's end in another":   {"0", `{"values":{"a":"first-middle","b":"middle-last"},"error":{"message":"no first-middle-last, no middle-last"}}`, `it says "no [redacted], no [redacted]"`, ""},
		"its end in itself":      {"0", `{"values":{"a":"abcab"},"error":{"message":"abcabcab ab"}}`, `it says "[redacted] ab"`, ""},
		"a public value":         {"0", `{"values":{"user":"lessee","host":"db.example","token":"` + canary + `"},"public":["user","host"],"error":{"message":"no lessee at db.example"}}`, `it says "no lessee at db.example"`, ""},
		"public and a secret":    {"0", `{"values":{"user":"` + canary + `","token":"` + canary + `"},"public":["user"],"error":{"message":"no ` + canary + `"}}`, `it says "no [redacted]"`, ""},
		"public of no value":     {"0", `{"values":{"token":"a"},"public":["` + canary + `"]}`, "public in its answer names a value that it does not have", "nothing"},
		"public twice":           {"0", `{"values":{"user":"a","token":"b"},"public":["user","user"]}`, "or one twice", "nothing"},
		"public, by another":     {"0", `{"values":{"user":"` + canary + `","token":"` + canary + `"},"public":["user"]}`, "public by one name and a secret by another", "nothing"},
		"public that is no list": {"0", `{"values":{"token":"a"},"public":"token"}`, "not of the type", ""},
		"an error of more":       {"0", `{"error":{"message":"m","not_created":true,"sure":true}}`, "a key that is not known", ""},
		"an error that is text":  {"0", `{"error":"` + canary + `"}`, "not of the type", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, o := acting(t, "", "answers", "issue", c.answer, "revoke", `{"gone":true}`)
			if c.status != "0" {
				b, o = acting(t, "", "says", c.status, c.answer)
			}
			issued, err := b.Issue(t.Context(), o)
			if got := known(err); got != c.known && (c.known != "issued" || err != nil) {
				t.Errorf("known is %q, want %q: %v", got, c.known, err)
			}
			switch {
			case c.known == "issued":
				if err != nil || issued.Handle.Empty() || len(issued.Values) == 0 || !o.Scope.Covers(issued.Granted) {
					t.Errorf("it ended with %v and %v", issued, err)
				}
				return
			case err == nil || !strings.Contains(err.Error(), c.says):
				t.Errorf("it ended with %v\nwant …%s…", err, c.says)
			case strings.Contains(err.Error(), canary):
				t.Errorf("the error quotes the answer: %v", err)
			}
			if (c.known == "nothing") != issued.Handle.Empty() || len(issued.Values) != 0 {
				t.Errorf("the handle is empty: %v; values: %d", issued.Handle.Empty(), len(issued.Values))
			}
		})
	}
}

func known(err error) string {
	switch {
	case errors.Is(err, backend.ErrNotCreated):
		return "nothing"
	case errors.Is(err, backend.ErrLost):
		return "lost"
	}
	return ""
}

func TestADyingProgramIsNotBelieved(t *testing.T) {
	b, o := acting(t, "", "dies")
	if issued, err := b.Issue(t.Context(), o); err == nil || errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty() {
		t.Errorf("it ended with %v", err)
	}
}

// Where what does not fit cannot be taken back, nobody says that it is gone.
func TestWhatDoesNotFitAndStaysIsKept(t *testing.T) {
	const wide = `{"values":{"token":"a"},"granted":{"can":["read","write"]},"handle":"h"}`
	for name, c := range map[string]struct{ options, revoke string }{
		"it cannot revoke":      {"revoke: false,", `{"gone":true}`},
		"it fails to":           {"", `{"error":{"message":"later","unavailable":true}}`},
		"it says that it lives": {"", `{"gone":false}`},
	} {
		b, o := acting(t, c.options, "answers", "issue", wide, "revoke", c.revoke)
		issued, err := b.Issue(t.Context(), o)
		if err == nil || errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty() {
			t.Errorf("%s: it ended with %v", name, err)
		}
	}
}

func TestGoneIsTheOnlyWordThatEnds(t *testing.T) {
	handle := secret.New(`{"program":"other","lease":"lease_1","handle":"` + canary + `"}`)
	for answer, want := range map[string]string{
		`{"gone":true}`:  "",
		`{"gone":false}`: "does not say that the credential is gone",
		`{}`:             "does not say that the credential is gone",
		`{"gone":true,"error":{"message":"or not"}}`: "or not",
		`{"gone":"yes"}`: "not of the type",
		`{"error":{"message":"no key ` + canary + `","not_created":true}}`:                "no key [redacted]",
		`{"error":{"message":"x","lost":true}}`:                                           "lost",
		`{"error":{"message":"x","unavailable":true}}`:                                    "unavailable",
		`{"error":{"message":"x","lost":true,"unavailable":true}}`:                        "unavailable",
		`{"values":{"token":"` + canary + `x"},"error":{"message":"tok ` + canary + `"}}`: "tok [redacted]",
	} {
		b, _ := acting(t, "probe: true,", "answers", "revoke", answer, "probe", answer)
		err := b.Revoke(t.Context(), "lease_1", handle)
		switch {
		case want == "":
			if err != nil {
				t.Errorf("%s: %v", answer, err)
			}
		case want == "lost":
			if !errors.Is(err, backend.ErrLost) {
				t.Errorf("%s: %v", answer, err)
			}
		case want == "unavailable":
			if !errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrLost) {
				t.Errorf("%s: %v", answer, err)
			}
		case err == nil || errors.Is(err, backend.ErrLost) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary):
			t.Errorf("%s: %v", answer, err)
		}
		gone, err := b.Gone(t.Context(), "lease_1", handle)
		if gone != (answer == `{"gone":true}`) || gone && err != nil || err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s to a probe: %v, %v", answer, gone, err)
		}
	}
}

func TestHandlesOfOthersAreRefused(t *testing.T) {
	b, _ := acting(t, "", "answers", "revoke", `{"gone":true}`, "probe", `{"gone":true}`)
	for handle, says := range map[string]string{
		`{"program":"other","lease":"lease_2"}`:    "not one of this backend and this lease",
		`{"program":"previous","lease":"lease_1"}`: "no longer configured; bring it back",
		`ghs_something`: "not one of this backend",
	} {
		err := b.Revoke(t.Context(), "lease_1", secret.New(handle))
		if err == nil || errors.Is(err, backend.ErrLost) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", handle, err)
		}
	}
	if gone, err := b.Gone(t.Context(), "lease_1", secret.New(`{"program":"other","lease":"lease_1"}`)); gone || err == nil {
		t.Errorf("a program that has no probe says %v, %v", gone, err)
	}
}

// What the program says is no secret is handed on as that, and nothing else is.
func TestWhatIsPublicIsThePrograms(t *testing.T) {
	for public, want := range map[string][]string{``: nil, `"public":[],`: nil, `"public":["user"],`: {"user"}} {
		b, o := acting(t, "", "answers", "issue", `{`+public+`"values":{"user":"a","token":"b"}}`)
		issued, err := b.Issue(t.Context(), o)
		if err != nil || !slices.Equal(issued.Public, want) {
			t.Errorf("%s: %q, %v", public, issued.Public, err)
		}
	}
}

// A handle may prove that a program was taken out of the configuration. That those that are
// left have nothing is then no proof for anybody's lease.
func TestWhoeverIsMissedMayHaveMadeIt(t *testing.T) {
	b, _ := acting(t, "", "answers", "revoke", `{"gone":true}`)
	if err := b.Revoke(t.Context(), "lease_1", secret.New(`{"program":"previous","lease":"lease_1"}`)); err == nil {
		t.Fatal("a program that is not there ended a lease")
	}
	err := b.Revoke(t.Context(), "lease_2", secret.String{})
	if err == nil || errors.Is(err, backend.ErrLost) || !strings.Contains(err.Error(), "the program previous is no longer configured; bring it back, with retired: true") {
		t.Errorf("a lease without a handle: %v", err)
	}
	if err := b.Revoke(t.Context(), "lease_3", secret.New(`{"program":"other","lease":"lease_3"}`)); err != nil {
		t.Errorf("a lease of a program that is there: %v", err)
	}
}

// Without a handle every program is asked; one that cannot revoke leaves it open.
func TestALostHandleIsLookedForEverywhere(t *testing.T) {
	var backends [2]*exec.Backend
	for i, options := range []string{"", "revoke: false,"} {
		backends[i], _ = acting(t, options, "answers", "revoke", `{"gone":true}`)
	}
	if err := backends[0].Revoke(t.Context(), "lease_1", secret.String{}); err != nil {
		t.Errorf("all say that it is gone: %v", err)
	}
	if err := backends[1].Revoke(t.Context(), "lease_1", secret.String{}); !errors.Is(err, backend.ErrLost) {
		t.Errorf("nobody can say: %v", err)
	}
}

func TestTermsAreTheConfigurations(t *testing.T) {
	for options, want := range map[string]backend.Terms{
		"":                   {DiesAt: newClock().now().Add(11 * time.Minute), Revocable: true},
		"revoke: false,":     {DiesAt: newClock().now().Add(11 * time.Minute)},
		"longest_life: 20m,": {DiesAt: newClock().now().Add(20*time.Minute + 90*time.Second), Revocable: true},
	} {
		b, o := acting(t, options, "hangs")
		if got := b.Terms(o); !got.DiesAt.Equal(want.DiesAt) || got.Revocable != want.Revocable {
			t.Errorf("%s: %+v, want %+v", options, got, want)
		}
	}
}
