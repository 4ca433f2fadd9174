package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
	"pgregory.net/rapid"
)

// These run the halves in this process, on synctest's clock: what takes the
// standard waits in life takes no time here.

// network answers requests without a network.
type network func(*http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

func answering(status int, body string, header ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func hanging(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// willing answers yes to whatever is asked.
func willing(r *http.Request) (*http.Response, error) {
	switch r.URL.Path {
	case "/idtoken":
		return answering(http.StatusOK, `{"value":"eyJh.b.c"}`)
	case "/token":
		return answering(http.StatusOK, standardGrant)
	}
	return answering(http.StatusOK, standardRevocation)
}

type rig struct {
	*step
	log   bytes.Buffer
	env   map[string]string
	asked []string // paths
}

func newRig(t *testing.T, n network) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{env: map[string]string{
		"INPUT_EXCHANGE": "https://exchange.example.com", "INPUT_TASK": "publish-release",
		"ACTIONS_ID_TOKEN_REQUEST_URL": "https://runner.example.com/idtoken?a=b", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runtime-token",
		"GITHUB_STATE": filepath.Join(dir, "state"), "GITHUB_OUTPUT": filepath.Join(dir, "output"),
	}}
	r.step = &step{
		runner: newRunner(func(name string) string { return r.env[name] }, &r.log),
		http: &http.Client{Transport: network(func(req *http.Request) (*http.Response, error) {
			r.asked = append(r.asked, req.URL.Path)
			return n(req)
		})},
		now: time.Now, waits: standardWaits(),
	}
	return r
}

// restoreState is the runner's part between the halves.
func (r *rig) restoreState(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(r.env["GITHUB_STATE"])
	if err != nil {
		t.Fatal(err)
	}
	entries, err := readCommandFile(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		r.env["STATE_"+entry[0]] = entry[1]
	}
}

func TestAWaitingMainEndsWithinItsBounds(t *testing.T) {
	for name, story := range map[string]struct {
		network
		atMost time.Duration
	}{
		"the ID-token service hangs": {hanging, 60 * time.Second},
		"the exchange hangs": {func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/idtoken" {
				return willing(r)
			}
			return hanging(r)
		}, 2*time.Minute + 5*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, began := newRig(t, story.network), time.Now()
			if code := r.actionMain(t.Context()); code != 1 {
				t.Errorf("%s: exit %d\n%s", name, code, &r.log)
			}
			if took := time.Since(began); took > story.atMost {
				t.Errorf("%s: it took %v, want at most %v\n%s", name, took, story.atMost, &r.log)
			}
		})
	}
}

func TestTheIDTokenIsAskedForFiveTimesWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		r := newRig(t, func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			if r.Header.Get("Authorization") != "Bearer runtime-token" || r.URL.RawQuery != "a=b&audience=x+y" {
				t.Errorf("%v %s", r.Header, r.URL)
			}
			return nil, io.ErrUnexpectedEOF
		})
		if _, err := r.idToken(t.Context(), "x y"); err == nil || !strings.Contains(err.Error(), "unexpected EOF") || strings.Contains(err.Error(), "runner.example.com") {
			t.Errorf("error: %v", err)
		}
		if len(at) != 5 {
			t.Fatalf("%d tries", len(at))
		}
		for i := range 4 {
			usual := 500 * time.Millisecond << i
			if pause := at[i+1].Sub(at[i]); pause < usual/2 || pause > usual*3/2+1 {
				t.Errorf("pause %d is %v, want %v jittered by half", i+1, pause, usual)
			}
		}
	})
}

func TestABusyExchangeIsGivenTheTimeItAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		r := newRig(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/token" && first {
				first = false
				return answering(http.StatusServiceUnavailable, `{"error":"temporarily_unavailable","error_description":"starting"}`, "Retry-After", "7")
			}
			return willing(r)
		})
		began := time.Now()
		if code := r.actionMain(t.Context()); code != 0 || time.Since(began) != 7*time.Second {
			t.Errorf("exit %d after %v\n%s", code, time.Since(began), &r.log)
		}
	})
}

func TestAfterASignalMainIsOutInFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signalled, cancel := context.WithCancel(t.Context())
		r := newRig(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/idtoken" {
				return willing(r)
			}
			return hanging(r)
		})
		time.AfterFunc(3*time.Second, cancel)
		began := time.Now()
		code := r.actionMain(signalled)
		if took := time.Since(began); code != 1 || took > 8*time.Second {
			t.Errorf("exit %d after %v", code, took)
		}
		if text := r.log.String(); !strings.Contains(text, "told to stop") || !strings.Contains(text, "could not be ended from here") {
			t.Error(text)
		}
		r.restoreState(t)
		if r.saved(stateStage) != stageAsked {
			t.Error("post must know that a credential may exist")
		}
	})
}

// The exchange cannot confirm an end while a create may still be in flight; it
// says so, and asks to come back later than the runner will let us.
func TestAfterASignalNoLongerThanNeededIsWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signalled, cancel := context.WithCancel(t.Context())
		r := newRig(t, func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/token":
				return hanging(r)
			case "/revoke":
				return answering(http.StatusServiceUnavailable, `{"error":"temporarily_unavailable","error_description":"Lease lease_01 is being ended."}`, "Retry-After", "5")
			}
			return willing(r)
		})
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		code := r.actionMain(signalled)
		if took := time.Since(began); code != 1 || took > 1100*time.Millisecond {
			t.Errorf("exit %d after %v", code, took)
		}
		if text := r.log.String(); !strings.Contains(text, "Lease lease_01 is being ended.") || strings.Contains(text, "Run the job again") {
			t.Error(text)
		}
	})
}

func TestPlainHTTPIsForThoseWhoSaySo(t *testing.T) {
	r := newRig(t, willing)
	r.env["INPUT_EXCHANGE"] = "http://exchange:8080"
	if code := r.actionMain(t.Context()); code != 1 || len(r.asked) != 0 {
		t.Errorf("exit %d, asked %v", code, r.asked)
	}
	r.env["STEPKEY_ALLOW_HTTP"] = "true"
	if code := r.actionMain(t.Context()); code != 0 {
		t.Errorf("exit %d\n%s", code, &r.log)
	}
}

func TestASignalDuringHandOverGivesTheCredentialBack(t *testing.T) {
	signalled, cancel := context.WithCancel(t.Context())
	r := newRig(t, func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/revoke" && r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		defer func() {
			if r.URL.Path == "/token" {
				cancel()
			}
		}()
		return willing(r)
	})
	code := r.actionMain(signalled)
	if want := []string{"/idtoken", "/token", "/revoke"}; code != 1 || !slices.Equal(slices.Compact(r.asked), want) {
		t.Errorf("exit %d, asked %v\n%s", code, r.asked, &r.log)
	}
	r.restoreState(t)
	if r.saved(stateStage) != stageSettled {
		t.Error("post has nothing left to do and must know it")
	}
}

func TestACredentialThatCannotBeHandedOverGoesBack(t *testing.T) {
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_STATE"} {
		var r *rig
		r = newRig(t, func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/token" { // the disk is gone from here on
				r.env[file] = filepath.Join(t.TempDir(), "no", "such", "directory")
			}
			return willing(req)
		})
		code := r.actionMain(t.Context())
		if code != 1 || !slices.Contains(r.asked, "/revoke") {
			t.Errorf("%s: exit %d, asked %v", file, code, r.asked)
		}
		if text := r.log.String(); !strings.Contains(text, "unable to write") || strings.Contains(asSeen(text), "canary") {
			t.Errorf("%s: %s", file, text)
		}
	}
}

func TestPostGivesUpAfterThirtySecondsWithAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hanging)
		maps.Copy(r.env, map[string]string{
			"STATE_stage": stageAsked, "STATE_lease_token": "skl_handle", "STATE_lease_id": "lease_01", "STATE_exchange": "https://exchange.example.com",
			"STATE_ends_at": "2026-11-23T15:05:00Z", "STATE_dies_at": "2026-11-23T16:00:30Z",
		})
		began := time.Now()
		r.actionPost(t.Context())
		if took := time.Since(began); took < 25*time.Second || took > 31*time.Second || len(r.asked) < 2 {
			t.Errorf("it took %v and %d tries", took, len(r.asked))
		}
		if text := r.log.String(); !strings.Contains(text, "it did not answer in time") || !strings.Contains(text, "it lives until 2026-11-23 15:05:00 UTC") {
			t.Error(text)
		}
	})
}

func TestALogThatCannotBeWrittenMeansNoCredential(t *testing.T) {
	r := newRig(t, willing)
	r.runner = newRunner(r.getenv, broken{})
	if code := r.actionMain(t.Context()); code != 1 || !slices.Equal(r.asked, []string{"/idtoken"}) {
		t.Errorf("exit %d, asked %v: without masks nothing more is to be asked for", code, r.asked)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// What is written to a command file is read back by the runner as exactly that,
// or it is refused: no value adds an entry of its own.
func TestNoValueAddsAnEntry(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{delimiter, "\n", "\r\n", "\r", "x<<" + delimiter, "a=b", "\x00", "EOF"}))
		pieces := rapid.SliceOfN(rapid.SliceOfN(piece, 0, 6), 1, 4).Draw(t, "values")
		path := filepath.Join(dir, "output")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRunner(func(string) string { return path }, io.Discard)
		var want [][2]string
		for i, parts := range pieces {
			name, value := string(rune('a'+i)), strings.Join(parts, "")
			if r.output(name, value) == nil {
				want = append(want, [2]string{name, value})
			} else if !strings.Contains(value, delimiter) && !strings.Contains(value, "\x00") {
				t.Fatalf("%q was refused", value)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readCommandFile(string(text))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("read %q (%v), want %q", got, err, want)
		}
	})
}

// A login may have the lease's own name, by which people find it in the audit log.
func TestTheNameOfALeaseIsNoSecret(t *testing.T) {
	var log bytes.Buffer
	r := newRunner(func(string) string { return "" }, &log)
	values := map[string]secret.String{"username": secret.New("lease_01"), "password": secret.New("skp_canary")}
	if err := r.maskGrant(&client.Grant{LeaseID: "lease_01", Values: values}); err != nil {
		t.Fatal(err)
	}
	if seen := asSeen(log.String() + "lease lease_01 with skp_canary\n"); !strings.Contains(seen, "lease lease_01 with ***") {
		t.Errorf("it is seen as %q", seen)
	}
}

// However a program prints a value whole, by line, in base64 or for a URL, the
// log hides it.
func TestUsualDisguisesAreMasked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`secret[A-Za-z0-9+/=_.~ -]{4,30}secret`)
		value := strings.Join(rapid.SliceOfN(word, 1, 3).Draw(t, "lines"), rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "newline"))
		var log bytes.Buffer
		r := newRunner(func(string) string { return "" }, &log)
		if err := r.maskGrant(&client.Grant{Values: map[string]secret.String{"v": secret.New(value)}}); err != nil {
			t.Fatal(err)
		}
		for _, disguise := range []string{
			value, strings.ReplaceAll(value, "\n", "\n  "), url.QueryEscape(value), url.PathEscape(value),
			base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
			base64.StdEncoding.EncodeToString([]byte("x-access-token:" + value)), strings.ReplaceAll(strings.ReplaceAll(value, "\r", `\r`), "\n", `\n`),
		} {
			if seen := asSeen(log.String() + "got " + disguise + "\n"); strings.Contains(seen, "secret") || !strings.Contains(seen, "***") {
				t.Fatalf("%q is seen as %q", disguise, seen)
			}
		}
	})
}
