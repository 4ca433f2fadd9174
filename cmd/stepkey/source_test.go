package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
	"pgregory.net/rapid"
)

// jwtFor is a token as a CI makes it, for one audience or several, that nobody signed.
func jwtFor(name string, audience any) string {
	payload, err := json.Marshal(map[string]any{"jti": name, "aud": audience})
	if err != nil {
		panic(err)
	}
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(payload) + ".c2lnbmF0dXJl"
}

const ours = "https://exchange.example.com"

func TestTheEnvironmentShowsTheSource(t *testing.T) {
	for name, story := range map[string]struct {
		env   string // NAME=value, with spaces between
		files string
		want  string // the source, or with ! what the error says
	}{
		"GitHub":                                 {env: "GITHUB_ACTIONS=true ACTIONS_ID_TOKEN_REQUEST_URL=https://x", want: "github"},
		"GitHub without the permission":          {env: "GITHUB_ACTIONS=true", want: "github"},
		"a runner that does not say whose it is": {env: "ACTIONS_ID_TOKEN_REQUEST_URL=https://x", want: "github"},
		"Forgejo":                                {env: "GITHUB_ACTIONS=true GITEA_ACTIONS=true FORGEJO_ACTIONS=true", want: "github"},
		"GitLab with a token":                    {env: "GITLAB_CI=true STEPKEY_ID_TOKEN=eyJ", want: "env:STEPKEY_ID_TOKEN"},
		"GitLab without":                         {env: "GITLAB_CI=true", want: "gitlab"},
		"Buildkite":                              {env: "BUILDKITE=true", want: "buildkite"},
		"CircleCI":                               {env: "CIRCLECI=true CIRCLE_OIDC_TOKEN_V2=eyJ", want: "circleci"},
		"a variable":                             {env: "STEPKEY_ID_TOKEN=eyJ", want: "env:STEPKEY_ID_TOKEN"},
		"a file":                                 {env: "STEPKEY_ID_TOKEN_FILE=/run/token", want: "file:/run/token"},
		"a pod":                                  {files: kubernetesFile, want: "kubernetes"},
		"what was set by name goes before the CI":  {env: "GITHUB_ACTIONS=true STEPKEY_ID_TOKEN=eyJ", want: "env:STEPKEY_ID_TOKEN"},
		"the CI's job goes before the pod":         {env: "GITHUB_ACTIONS=true", files: kubernetesFile, want: "github"},
		"a variable that says no":                  {env: "BUILDKITE=false", want: "!nothing here shows"},
		"two by name":                              {env: "STEPKEY_ID_TOKEN=eyJ STEPKEY_ID_TOKEN_FILE=/run/token", want: "!env:STEPKEY_ID_TOKEN (STEPKEY_ID_TOKEN is set), file (STEPKEY_ID_TOKEN_FILE is set)"},
		"one CI inside another":                    {env: "GITLAB_CI=true BUILDKITE=true", want: "!gitlab (GITLAB_CI is true), buildkite (BUILDKITE is true)"},
		"nothing":                                  {want: "!github, gitlab[:NAME], buildkite, circleci, kubernetes[:PATH], spiffe:PATH, env:NAME, file:PATH"},
		"a file that the default does not look at": {files: "/tmp/token", want: "!nothing here shows"},
	} {
		env := map[string]string{}
		for pair := range strings.FieldsSeq(story.env) {
			key, value, _ := strings.Cut(pair, "=")
			env[key] = value
		}
		got, err := detectSource(surroundings{
			getenv: func(name string) string { return env[name] }, isFile: func(path string) bool { return path == story.files },
		})
		if want, fails := strings.CutPrefix(story.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--id-token") {
				t.Errorf("%s: %q, %v; want an error with %q", name, got, err, want)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// Where nothing contradicts it, what is shown is what there is: for every set of signs
// the first rank with exactly one decides, and no other ever does.
func TestTheFirstRankThatShowsAnythingDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := map[string]string{
			"GITHUB_ACTIONS": "true", "GITLAB_CI": "true", "BUILDKITE": "true", "CIRCLECI": "true",
			tokenVariable: "eyJ", tokenFileVariable: "/f", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://x",
		}
		env := map[string]string{}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{
			"GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", tokenVariable, tokenFileVariable, "ACTIONS_ID_TOKEN_REQUEST_URL",
		}), rapid.ID).Draw(t, "set") {
			env[name] = values[name]
		}
		inPod := rapid.Bool().Draw(t, "pod")
		byName, cis := 0, 0
		for _, name := range []string{tokenVariable, tokenFileVariable} {
			byName += len(env[name][:min(1, len(env[name]))])
		}
		for _, name := range []string{"GITLAB_CI", "BUILDKITE", "CIRCLECI"} {
			cis += len(env[name]) / 4
		}
		if env["GITHUB_ACTIONS"] != "" || env["ACTIONS_ID_TOKEN_REQUEST_URL"] != "" {
			cis++
		}
		got, err := detectSource(surroundings{
			getenv: func(name string) string { return env[name] }, isFile: func(path string) bool { return inPod && path == kubernetesFile },
		})
		decides := byName == 1 || byName == 0 && (cis == 1 || cis == 0 && inPod)
		if decides != (err == nil) || decides != (got != "") {
			t.Fatalf("%v, pod %v: %q, %v", env, inPod, got, err)
		}
		if decides && byName == 1 && !strings.HasPrefix(got, "env:") && !strings.HasPrefix(got, "file:") {
			t.Fatalf("%v: %q", env, got)
		}
	})
}

func TestASourceIsNamedByItsForm(t *testing.T) {
	for given, want := range map[string]string{
		"github": "github", "gitlab": "gitlab:STEPKEY_ID_TOKEN", "gitlab:RELEASE_TOKEN": "gitlab:RELEASE_TOKEN", "buildkite": "buildkite",
		"kubernetes": "kubernetes:" + kubernetesFile, "kubernetes:/run/t": "kubernetes:/run/t", "spiffe:/run/jwt": "spiffe:/run/jwt",
		"env:TOKEN": "env:TOKEN", "file:/a:b": "file:/a:b",
		"github:x": "!takes nothing", "github:": "!takes nothing", "env": "!env:NAME", "env:": "!env:NAME", "file": "!file:PATH", "spiffe": "!spiffe:PATH",
		"gitlab:": "!gitlab:NAME", "env:A B": "!not a variable's name", "env:1A": "!not a variable's name", "jenkins": "!one of github, gitlab[:NAME]",
		"GitHub": "!one of", ":": "!one of",
	} {
		r := newRig(t, willing)
		from, err := r.sourceNamed(given)
		if want, fails := strings.CutPrefix(want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, %v; want an error with %q", given, from, err, want)
			}
		} else if err != nil || from.String() != want {
			t.Errorf("%q: %v, %v; want %s", given, from, err, want)
		}
	}
}

// takesFrom chooses a source, whether there is a token or not.
func (r *rig) takesFrom(t *testing.T, given string) {
	t.Helper()
	var err error
	if r.source, err = r.sourceNamed(given); err != nil {
		t.Fatal(err)
	}
}

func TestAFixedTokenIsSentOnce(t *testing.T) {
	r := newRig(t, willing)
	r.env["TOKEN"] = jwtFor("one", ours)
	r.takesFrom(t, "env:TOKEN")
	first, err := r.idToken(t.Context(), ours)
	if err != nil || first.Reveal() != r.env["TOKEN"] {
		t.Fatal(err)
	}
	if r.mintsAnyAudience() {
		t.Error("a variable mints nothing")
	}
	if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "TOKEN was sent already, and an exchange takes each only once; another request") || strings.Contains(err.Error(), "eyJ") {
		t.Errorf("the second time: %v", err)
	}
	r.sent(first, &client.Unreachable{Exchange: ours, Arrived: true, Err: io.ErrUnexpectedEOF})
	if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "unexpected EOF") || !strings.Contains(err.Error(), "It was not asked again") {
		t.Errorf("it may have arrived, and the error is %v", err)
	}
	r.sent(first, &client.Unreachable{Arrived: false})
	if again, err := r.idToken(t.Context(), ours); err != nil || again.Reveal() != first.Reveal() {
		t.Errorf("it never arrived, and is good still: %v", err)
	}
	r.env["TOKEN"] = jwtFor("two", ours)
	if second, err := r.idToken(t.Context(), ours); err != nil || second.Reveal() == first.Reveal() {
		t.Errorf("a new one: %v", err)
	}
}

// The cluster replaces a projected token through a link, as kubelet does.
func TestARotatedFileIsReadAnew(t *testing.T) {
	for _, kind := range []string{"kubernetes", "spiffe", "file"} {
		dir := t.TempDir()
		project := func(generation, token string) {
			t.Helper()
			folder := filepath.Join(dir, generation)
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "token"), []byte(token+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, "link")
			if err := os.Symlink(generation, link); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		r := newRig(t, willing)
		r.takesFrom(t, kind+":"+filepath.Join(dir, "..data", "token"))
		project("1", jwtFor("one", []string{ours}))
		if token, err := r.idToken(t.Context(), ours); err != nil || token.Reveal() != jwtFor("one", []string{ours}) {
			t.Fatalf("%s: %v", kind, err)
		}
		if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "another request needs a new one") {
			t.Errorf("%s, not rotated yet: %v", kind, err)
		}
		project("2", jwtFor("two", []string{ours}))
		if token, err := r.idToken(t.Context(), ours); err != nil || token.Reveal() != jwtFor("two", []string{ours}) {
			t.Errorf("%s, rotated: %v", kind, err)
		}
	}
}

func TestATokenForSomebodyElseStaysHere(t *testing.T) {
	for name, story := range map[string]struct {
		audience any
		says     string
	}{
		"the cluster's own": {[]string{"https://kubernetes.default.svc"}, `is for "https://kubernetes.default.svc" and not for "https://exchange.example.com"`},
		"another exchange":  {"https://other.example.com", "so it was not sent"},
		"nearly ours":       {ours + "/", "so it was not sent"},
		"nobody":            {[]string{}, "names no audience"},
		"no audience":       {nil, "names no audience"},
		"no text":           {7, "names no audience"},
		"text with lines":   {"a\n::set-output name=x::y", `"a\n::set-output name=x::y"`},
	} {
		r := newRig(t, willing)
		r.env["TOKEN"] = jwtFor("one", story.audience)
		r.takesFrom(t, "env:TOKEN")
		if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), story.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNoTokenIsSaidAndNotShown(t *testing.T) {
	dir := t.TempDir()
	fifo, long, empty := filepath.Join(dir, "fifo"), filepath.Join(dir, "long"), filepath.Join(dir, "empty")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int{long: 1 << 20, empty: 0} {
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for given, says := range map[string]string{
		"file:" + dir: "is not a file", "file:" + fifo: "is not a file", "file:" + long: "longer than 16 KiB", "file:" + empty: "it is empty",
		"kubernetes:" + filepath.Join(dir, "no"): "no such file or directory. Add a projected volume",
		"env:NONE":                               "NONE is not set", "gitlab": "`STEPKEY_ID_TOKEN: {aud:", "env:PASSWORD": "does not look like an ID token",
		"env:SPACES": "not base64url", "env:PARTS": "three parts", "env:HOLLOW": "not base64url", "env:CLAIMS": "claims cannot be read",
	} {
		r := newRig(t, willing)
		r.env["PASSWORD"], r.env["SPACES"], r.env["PARTS"] = "hunter2.hunter2.hunter2", "eyJh.hun ter2.c2ln", "eyJh.hunter2"
		r.env["HOLLOW"], r.env["CLAIMS"] = "eyJh..hunter2", "eyJh.hunter2.c2ln"
		r.takesFrom(t, given)
		_, err := r.idToken(t.Context(), ours)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v; want %q", given, err, says)
		}
		if strings.Contains(r.log.String(), "hunter") {
			t.Errorf("%s: the log shows it", given)
		}
	}
}

// aProgram puts a shell script in the way of a CI's own program.
func aProgram(t *testing.T, name, script string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	text := "#!/bin/sh\nfor a in \"$@\"; do printf '<%s>' \"$a\"; done >>'" + calls + "'; echo >>'" + calls + "'\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return calls
}

func TestTheCIsProgramIsAskedForEachAudience(t *testing.T) {
	audience := `https://exchange.example.com/?d=a"b c`
	for kind, want := range map[string][2]string{
		"buildkite": {"buildkite-agent", "<oidc><request-token><--audience><" + audience + "><--claim><organization_id,pipeline_id>"},
		"circleci":  {"circleci", `<run><oidc><get><--claims><{"aud":"https://exchange.example.com/?d=a\"b c"}>`},
	} {
		calls := aProgram(t, want[0], "echo "+jwtFor("one", audience)+"; echo warming up >&2")
		r := newRig(t, willing)
		r.takesFrom(t, kind)
		for range 2 {
			token, err := r.idToken(t.Context(), audience)
			if err != nil || token.Reveal() != jwtFor("one", audience) {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		if !r.mintsAnyAudience() {
			t.Errorf("%s mints for any audience", kind)
		}
		got, err := os.ReadFile(calls)
		if err != nil || string(got) != want[1]+"\n"+want[1]+"\n" {
			t.Errorf("%s was asked %s, want twice %s (%v)", kind, got, want[1], err)
		}
	}
}

func TestAProgramThatGivesNoTokenIsQuotedWithoutSecrets(t *testing.T) {
	for name, story := range map[string][2]string{
		"it refuses":         {"echo first >&2; echo 'fatal: 401 eyJhbGciOi.eyJhdWQiOi.c2ln' >&2; exit 3", `exit status 3; it said "fatal: 401 [redacted]"`},
		"it says nothing":    {"exit 1", "exit status 1"},
		"it prints no token": {"echo usage: hunter2", "does not look like an ID token"},
		"it prints too much": {"while :; do echo eyJhunter2eyJhunter2; done | head -c 1000000", "longer than 16 KiB"},
		"it prints nothing":  {"", "it is empty"},
	} {
		aProgram(t, "buildkite-agent", story[0])
		r := newRig(t, willing)
		r.waits.firstPause = time.Millisecond
		r.takesFrom(t, "buildkite")
		_, err := r.idToken(t.Context(), ours)
		if err == nil || !strings.Contains(err.Error(), story[1]) || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "c2ln") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProgramThatHangsIsLeft(t *testing.T) {
	if runtime.GOOS == "windows" {
		needs.Started(t, needs.Missing{What: "a POSIX shell"})
	}
	aProgram(t, "buildkite-agent", "sleep 20 & exec sleep 20")
	r := newRig(t, willing)
	r.waits.idTokenAll = 200 * time.Millisecond
	r.takesFrom(t, "buildkite")
	began := time.Now()
	if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "in time") || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestWhereTheProgramIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := newRig(t, willing)
	if err := r.chooseSource("buildkite"); err == nil || !strings.Contains(err.Error(), "mount-buildkite-agent") {
		t.Errorf("Buildkite: %v", err)
	}
	r = newRig(t, willing)
	r.env[circleCIVariable] = jwtFor("one", "org-id")
	r.takesFrom(t, "circleci")
	if _, err := r.idToken(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "for the organization") {
		t.Errorf("CircleCI, another audience: %v", err)
	}
	if token, err := r.idToken(t.Context(), "org-id"); err != nil || token.Empty() || r.mintsAnyAudience() {
		t.Errorf("CircleCI, the organization's: %v", err)
	}
}

func TestWhyForgejoAndGiteaGiveNone(t *testing.T) {
	r := newRig(t, willing)
	r.env = map[string]string{"GITHUB_ACTIONS": "true", "GITEA_ACTIONS": "true", "GITHUB_EVENT_NAME": "push"}
	if err := r.chooseSource(""); err == nil || !strings.Contains(err.Error(), "this Gitea gives") {
		t.Error(err)
	}
	r.env["FORGEJO_ACTIONS"] = "true"
	if err := r.chooseSource(""); err == nil || !strings.Contains(err.Error(), "enable-openid-connect: true") {
		t.Error(err)
	}
}

// Some issuers give no jti, and make the same token again within a second.
func TestATokenThatAnExchangeCannotTellFromTheLastIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withJTI := false
		r := newRig(t, func(*http.Request) (*http.Response, error) {
			claims := fmt.Sprintf(`{"aud":%q,"iat":%d}`, ours, time.Now().Unix())
			if withJTI {
				claims = `{"jti":"the same all the time"}`
			}
			return answering(http.StatusOK, `{"value":"eyJh.`+base64.RawURLEncoding.EncodeToString([]byte(claims))+`.c2ln"}`)
		})
		began := time.Now()
		tokens := map[string]bool{}
		for range 3 {
			token, err := r.idToken(t.Context(), ours)
			if err != nil {
				t.Fatal(err)
			}
			tokens[token.Reveal()] = true
		}
		if len(tokens) != 3 || time.Since(began) != 2*time.Second {
			t.Errorf("%d tokens after %v", len(tokens), time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.idToken(ctx, ours); err == nil || !strings.Contains(err.Error(), "the same ID token again") {
			t.Errorf("with no time left: %v", err)
		}
		withJTI, began = true, time.Now()
		for range 2 { // which is the issuer's business, and the exchange's
			if _, err := r.idToken(t.Context(), ours); err != nil || time.Since(began) != 0 {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		}
	})
}

// Whatever the source, a runner is told to hide the token before it is used.
func TestATokenOfAnySourceIsMaskedForTheRunner(t *testing.T) {
	token := jwtFor("one", ours)
	aProgram(t, "buildkite-agent", "echo "+token)
	for _, kind := range []string{"env:TOKEN", "buildkite"} {
		r := newRig(t, willing)
		r.env["TOKEN"] = token
		r.takesFrom(t, kind)
		if _, err := r.idToken(t.Context(), ours); err != nil || !strings.HasPrefix(r.log.String(), "::add-mask::"+token+"\n") {
			t.Errorf("%s: %v, %q", kind, err, r.log.String())
		}
		r = newRig(t, willing)
		r.env["TOKEN"] = token
		r.takesFrom(t, kind)
		r.runner = newRunner(r.getenv, broken{})
		if _, err := r.idToken(t.Context(), ours); err == nil {
			t.Errorf("%s: it cannot be masked, and is used", kind)
		}
	}
}

func TestTokensThatAreAskedForAtOnceAreNotTheSame(t *testing.T) {
	r := newRig(t, willing)
	r.env["TOKEN"] = jwtFor("one", ours)
	r.takesFrom(t, "env:TOKEN")
	got := make(chan secret.String, 8)
	for range cap(got) {
		go func() {
			token, _ := r.source.token(context.Background(), ours)
			got <- token
		}()
	}
	given := 0
	for range cap(got) {
		if token := <-got; !token.Empty() {
			given++
		}
	}
	if given != 1 {
		t.Errorf("one token was given %d times", given)
	}
}

// FuzzIDToken: what is read from files, variables and programs.
func FuzzIDToken(f *testing.F) {
	for _, text := range []string{jwtFor("one", ours), jwtFor("one", []string{ours}) + "\n", "eyJh.b.c\r\n", "eyJh.b.c\n\n", " eyJh.b.c", "a.b.c", "eyJh.b.c.d", "ey.\x00.c", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := readIDToken(text)
		if (err == nil) == token.Empty() {
			t.Fatalf("token empty: %v, error: %v", token.Empty(), err)
		}
		if err != nil {
			return
		}
		plain := token.Reveal()
		if !strings.HasPrefix(text, plain) || len(text)-len(plain) > 2 || strings.Count(plain, ".") != 2 || strings.ContainsAny(plain, " \t\r\n=\"'\\$`") || len(plain) > maxIDToken {
			t.Errorf("%q was taken for a token", plain)
		}
		if again, err := readIDToken(plain); err != nil || again.Reveal() != plain {
			t.Errorf("what was read is not read again: %v", err)
		}
		if audiences, err := audiencesOf(token); err != nil && audiences != nil {
			t.Errorf("%v with %v", audiences, err)
		}
	})
}
