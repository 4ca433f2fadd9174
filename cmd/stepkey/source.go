package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/stepkey/stepkey/internal/secret"
)

// A source is where ID tokens come from. It hides how a CI, a cluster or a person hands
// them to a job. Safe for concurrent use.
type source interface {
	// String names it as --id-token does.
	String() string
	// ready reports, without asking for a token, why there can be none.
	ready() error
	// token gives one that was not given before.
	token(ctx context.Context, audience string) (secret.String, error)
	// mints: it makes tokens for any audience, as many as are wanted. Otherwise there is
	// one token, with the audience that others chose.
	mints() bool
	// sent is told how the call with a token ended.
	sent(token secret.String, err error)
}

// idToken gets an ID token that was not sent before, and has it masked before anyone
// else sees it.
func (s *step) idToken(ctx context.Context, audience string) (secret.String, error) {
	from := s.idTokens()
	token, err := s.distinct(ctx, from, audience)
	if err != nil {
		return secret.String{}, err
	}
	if _, masked := from.(runnerService); !masked {
		if err := s.mask(token.Reveal()); err != nil {
			return secret.String{}, &trouble{"no ID token", fmt.Sprintf("the ID token cannot be masked, so it is not used: %v", err)}
		}
	}
	s.debug("got an ID token of %d bytes from %s", len(token.Reveal()), from)
	return token, nil
}

// idTokens is the source that was chosen; an action's is always its runner's service.
func (s *step) idTokens() source {
	if s.source == nil {
		return runnerService{s}
	}
	return s.source
}

// mintsAnyAudience: a request may be bound by its audience.
func (s *step) mintsAnyAudience() bool { return s.idTokens().mints() }

// sent is to be told how each call with an ID token ended: where there is only one, it
// matters whether it arrived.
func (s *step) sent(token secret.String, err error) { s.idTokens().sent(token, err) }

// chooseSource sets where this step's ID tokens come from: what was given as --id-token,
// or else what the environment shows. It stays the same one for all requests, since it
// knows which tokens were sent. The error also says why there can be no token at all.
func (s *step) chooseSource(given string) error {
	if given == "" {
		found, err := detectSource(surroundings{getenv: s.getenv, isFile: isFile})
		if err != nil {
			return err
		}
		given = found
	}
	chosen, err := s.sourceNamed(given)
	if err != nil {
		return err
	}
	s.source = chosen
	return chosen.ready()
}

// maxIDToken is what the exchange reads of a token, in bytes.
const maxIDToken = 16 << 10

// readIDToken takes a token out of what a file, a variable or a program holds: one
// newline at its end is not part of it. Errors never repeat the text.
func readIDToken(text string) (secret.String, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	parts := strings.Split(text, ".")
	switch {
	case text == "":
		return secret.String{}, errors.New("it is empty")
	case len(text) > maxIDToken:
		return secret.String{}, fmt.Errorf("it is longer than %d KiB, which no ID token is", maxIDToken>>10)
	case len(parts) != 3 || !strings.HasPrefix(text, "ey"): // {" in base64url
		return secret.String{}, errors.New("it does not look like an ID token: that is a JWT, three parts with dots between them, and begins with ey")
	}
	for _, part := range parts {
		if part == "" || strings.ContainsFunc(part, bad) {
			return secret.String{}, errors.New("it does not look like an ID token: one of its three parts is not base64url")
		}
	}
	return secret.New(text), nil
}

// claimsOf reads a token's claims. Nothing is verified, which is the exchange's to do.
func claimsOf(token secret.String, claims any) error {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) == 3 {
		if text, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(text, claims) == nil {
			return nil
		}
	}
	return errors.New("its claims cannot be read: it is not a JWT")
}

// audiencesOf reads a token's aud, so that a token that is meant for somebody else is
// not sent at all.
func audiencesOf(token secret.String) ([]string, error) {
	var claims struct {
		Audience json.RawMessage `json:"aud"`
	}
	if err := claimsOf(token, &claims); err != nil {
		return nil, err
	}
	var one string
	if json.Unmarshal(claims.Audience, &one) == nil && one != "" {
		return []string{one}, nil
	}
	var several []string
	if json.Unmarshal(claims.Audience, &several) != nil || len(several) == 0 {
		return nil, errors.New("it names no audience")
	}
	return several, nil
}

// distinct mints until the exchange can tell the token from those before. Issuers that
// give no jti make the same token again within a second, and its second use is refused.
func (s *step) distinct(ctx context.Context, from source, audience string) (secret.String, error) {
	for {
		token, err := from.token(ctx, audience)
		if err != nil || !from.mints() {
			return token, err
		}
		var claims struct {
			ID json.RawMessage `json:"jti"`
		}
		if unread := claimsOf(token, &claims); unread != nil || claims.ID != nil {
			return token, nil //nolint:nilerr // what cannot be read is for the exchange to refuse
		}
		named := token.Reveal()[:strings.LastIndexByte(token.Reveal(), '.')]
		if _, again := s.minted.LoadOrStore(sha256.Sum256([]byte(named)), true); !again {
			return token, nil
		}
		next := time.NewTimer(time.Second) // iat counts seconds
		select {
		case <-next.C:
		case <-ctx.Done():
			return secret.String{}, &trouble{"no ID token", "the issuer gave the same ID token again, and an exchange takes each only once"}
		}
	}
}

// sourceKinds are what --id-token takes: a kind, and for some a place after a colon.
var sourceKinds = []struct {
	kind    string
	place   string // how the place is called; empty: there is none
	usually string // the place where none is given; empty: it must be
	about   string
	make    func(s *step, place string) source
}{
	{"github", "", "", "the runner's service, on GitHub, Forgejo and Gitea", func(s *step, _ string) source { return runnerService{s} }},
	{"gitlab", "NAME", "STEPKEY_ID_TOKEN", "the variable that `id_tokens:` of the job sets", newGitLab},
	{"buildkite", "", "", "what `buildkite-agent oidc request-token` prints", func(s *step, _ string) source { return newBuildkite(s) }},
	{"circleci", "", "", "what `circleci run oidc get` prints, or CIRCLE_OIDC_TOKEN_V2", func(s *step, _ string) source { return newCircleCI(s) }},
	{"kubernetes", "PATH", kubernetesFile, "a projected service-account token", newKubernetes},
	{"spiffe", "PATH", "", "a file that holds a JWT-SVID", newSPIFFE},
	{"env", "NAME", "", "any variable that holds a token", newVariable},
	{"file", "PATH", "", "any file that holds a token", newFile},
}

// sourceForms lists what --id-token takes, for help and errors.
func sourceForms() []string {
	forms := make([]string, len(sourceKinds))
	for i, kind := range sourceKinds {
		forms[i] = kind.kind
		switch {
		case kind.place != "" && kind.usually != "":
			forms[i] += "[:" + kind.place + "]"
		case kind.place != "":
			forms[i] += ":" + kind.place
		}
	}
	return forms
}

// sourceNamed makes the source that --id-token names.
func (s *step) sourceNamed(given string) (source, error) {
	name, place, found := strings.Cut(given, ":")
	for _, kind := range sourceKinds {
		if kind.kind != name {
			continue
		}
		switch {
		case kind.place == "" && found:
			return nil, badSource(fmt.Sprintf("%s takes nothing after its name", name))
		case place == "" && (found || kind.usually == "") && kind.place != "":
			return nil, badSource(fmt.Sprintf("%s needs a %s: write %s:%s", name, kind.place, name, kind.place))
		case kind.place == "NAME" && place != "" && !isName(place, ""):
			return nil, badSource("what stands after " + name + ": is not a variable's name")
		case place == "":
			place = kind.usually
		}
		return kind.make(s, place), nil
	}
	return nil, badSource("it is one of " + strings.Join(sourceForms(), ", "))
}

func badSource(why string) error {
	return &trouble{"no ID token", "--id-token does not name a source of ID tokens: " + why}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func hasProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
