package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

const standardIntrospection = `{"active":true,"scope":"publish-release","token_type":"Bearer","iss":"https://exchange.example.com",
"sub":"acme/widget, job 51725241954","lease_id":"lease_01","lease_state":"active","lease_ends_at":"2026-11-23T15:05:00Z",
"lease_dies_at":"2026-11-23T16:00:30Z","granted":"contents: write on acme/widget"}`

func (w *theWorld) introspect(rw http.ResponseWriter, r *http.Request) {
	w.noted("/introspect", "lease token %s", r.PostFormValue("token")).answer(rw, r, standardIntrospection)
}

// tokenName is how the log calls a token: by its jti, if it has claims.
func tokenName(payload []byte) string {
	var claims struct {
		ID string `json:"jti"`
	}
	if json.Unmarshal(payload, &claims) == nil {
		return claims.ID
	}
	return string(payload)
}

// mintToken makes a token as other CIs do: of one audience, and known to the exchange.
func (w *theWorld) mintToken(audience string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.issued++
	token := jwtFor(fmt.Sprintf("id-token-%d", w.issued), audience)
	w.unspent[token] = audience
	return token
}

// mintCommand makes ID tokens outside of the runner's service:
//
//	mint env NAME [AUDIENCE]     into a variable; for the exchange, unless said
//	mint file NAME [AUDIENCE]    into a file, with a newline, readable by all
//
// It also takes the runner's service away: this is no job of GitHub's.
func mintCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mint env|file NAME [AUDIENCE]")
	}
	w := world(ts)
	audience := w.server.URL
	if len(args) > 2 {
		audience = args[2]
	}
	elsewhere(ts)
	token := w.mintToken(audience)
	ts.Setenv("MINTED", token)
	if args[0] == "env" {
		ts.Setenv(args[1], token)
		return
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(token+"\n"), 0o644))
}

// elsewhere is a machine that is no runner of GitHub's.
func elsewhere(ts *testscript.TestScript) {
	for _, name := range []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_STATE", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY", "GITHUB_EVENT_NAME"} {
		ts.Setenv(name, "")
	}
	ts.Setenv("STEPKEY_EXCHANGE", world(ts).server.URL)
}

// programCommand puts a CI's own program into PATH. It asks the story's service for the
// token, so each call gives another one, and notes what it was called with in the file
// NAME.calls:
//
//	program buildkite-agent|circleci
func programCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: program NAME")
	}
	elsewhere(ts)
	dir := ts.MkAbs("bin")
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.WriteFile(filepath.Join(dir, args[0]), []byte("#!/bin/sh\nexec ci-program \"$@\"\n"), 0o700))
	ts.Setenv("PATH", dir+string(os.PathListSeparator)+ts.Getenv("PATH"))
	ts.Setenv("WORLD", world(ts).server.URL)
	ts.Setenv("CALLS", ts.MkAbs(args[0]+".calls"))
}

// ciProgram stands in for buildkite-agent and circleci.
func ciProgram() {
	f, err := os.OpenFile(os.Getenv("CALLS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintln(f, strings.ReplaceAll(strings.Join(os.Args[1:], " "), os.Getenv("WORLD"), "EXCHANGE"))
	audience := os.Args[len(os.Args)-1]
	if after := slices.Index(os.Args, "--audience") + 1; after > 0 && after < len(os.Args) {
		audience = os.Args[after]
	}
	var claims struct {
		Audience string `json:"aud"`
	}
	if json.Unmarshal([]byte(audience), &claims) == nil {
		audience = claims.Audience
	}
	req, err := http.NewRequest(http.MethodGet, os.Getenv("WORLD")+"/idtoken?api-version=program&audience="+strings.ReplaceAll(audience, "+", "%2B"), nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer runtime-token")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "fatal: the service answered", res.StatusCode)
		os.Exit(1)
	}
	_ = res.Body.Close()
	_, _ = fmt.Println(answer.Value)
}

// exitsCommand runs a command that ends with a certain code: exits 3 stepkey status.
func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok || fmt.Sprint(failed.ExitCode()) != args[0] {
		ts.Fatalf("it ended with %v, not with exit code %s", err, args[0])
	}
}

// modeCommand demands a file's permissions: mode FILE 600.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE OCTAL")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("the permissions of %s are %s, not %s", args[0], got, args[1])
	}
}
