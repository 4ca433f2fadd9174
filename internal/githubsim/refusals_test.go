package githubsim_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stepkey/stepkey/internal/githubsim"
)

func TestAppJWTsAreRefusedAsGitHubRefusesThem(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	now := s.clock.Now().Unix()
	const (
		undecodable = "A JSON web token could not be decoded"
		badIssued   = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
		badExpiry   = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
		tooFar      = "'Expiration time' claim ('exp') is too far in the future"
	)
	otherKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": s.app.ClientID, "iat": now, "exp": now + 60}
	for name, test := range map[string]struct {
		jwt     string
		status  int
		message string
	}{
		"by client id":          {s.jwt(nil), 200, ""},
		"by App id, a string":   {s.jwt(map[string]any{"iss": fmt.Sprint(s.app.ID)}), 200, ""},
		"by App id, a number":   {s.jwt(map[string]any{"iss": s.app.ID}), 200, ""},
		"issued 60 s ahead":     {s.jwt(map[string]any{"iat": now + 60}), 200, ""},
		"issued 61 s ahead":     {s.jwt(map[string]any{"iat": now + 61}), 401, badIssued},
		"issued at no integer":  {s.jwt(map[string]any{"iat": 1.5}), 401, badIssued},
		"issued at nothing":     {s.jwt(map[string]any{"iat": nil}), 401, badIssued},
		"ends in 10 min":        {s.jwt(map[string]any{"exp": now + 600}), 200, ""},
		"ends in 10 min 1 s":    {s.jwt(map[string]any{"exp": now + 601}), 401, tooFar},
		"ends now":              {s.jwt(map[string]any{"exp": now}), 401, badExpiry},
		"ends never":            {s.jwt(map[string]any{"exp": nil}), 401, badExpiry},
		"of an unknown App":     {s.jwt(map[string]any{"iss": "Iv1.unknown"}), 404, "Integration not found"},
		"of nobody":             {s.jwt(map[string]any{"iss": nil}), 404, "Integration not found"},
		"by another key":        {signed(t, jose.SigningKey{Algorithm: jose.RS256, Key: otherKey}, claims), 401, undecodable},
		"RS512":                 {signed(t, jose.SigningKey{Algorithm: jose.RS512, Key: s.app.Key}, claims), 401, undecodable},
		"HS256 with the PEM":    {signed(t, jose.SigningKey{Algorithm: jose.HS256, Key: s.app.KeyPEM()}, claims), 401, undecodable},
		"an installation token": {s.token(`{}`), 401, undecodable},
		"nonsense":              {"a.b.c", 401, undecodable},
		"no credentials":        {"", 401, "Requires authentication"},
	} {
		t.Run(name, func(t *testing.T) {
			wantReply(t, s.call("GET", "/app", test.jwt, ""), test.status, test.message)
		})
	}
}

func TestTokenRequestsBeyondTheInstallationAreRefused(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	const outside = "There is at least one repository that does not exist or is not accessible to the parent installation."
	many := strings.TrimSuffix(strings.Repeat(`"widget",`, 501), ",")
	for name, test := range map[string]struct {
		body    string
		status  int
		message string
	}{
		"exactly what it has":            {`{"permissions":{"contents":"write","issues":"read"}}`, 201, ""},
		"nothing":                        {``, 201, ""},
		"less":                           {`{"permissions":{"contents":"read"},"repositories":["docs"]}`, 201, ""},
		"a higher level":                 {`{"permissions":{"issues":"write"}}`, 422, "The permissions requested are not granted to this installation."},
		"another permission":             {`{"permissions":{"checks":"read"}}`, 422, "The permissions requested are not granted to this installation."},
		"an unknown permission":          {`{"permissions":{"content":"read"}}`, 422, "Invalid request.\n\n\"content\" is not a permitted key."},
		"an unknown level":               {`{"permissions":{"contents":"admin"}}`, 422, "Invalid request.\n\nadmin is not a level of contents."},
		"an empty level":                 {`{"permissions":{"contents":""}}`, 422, "Invalid request.\n\n is not a level of contents."},
		"an unknown field":               {`{"repos":["widget"]}`, 422, "Invalid request.\n\n\"repos\" is not a permitted key."},
		"a TTL":                          {`{"expires_in":60}`, 422, "Invalid request.\n\n\"expires_in\" is not a permitted key."},
		"a string for a list":            {`{"repositories":"widget"}`, 422, "Invalid request.\n\nA property has a value of the wrong type."},
		"broken JSON":                    {`{"repositories":`, 400, "Problems parsing JSON"},
		"a repository not installed":     {`{"repositories":["gadget"]}`, 422, outside},
		"a repository with its owner":    {`{"repositories":["acme/widget"]}`, 422, outside},
		"somebody else's repository":     {`{"repositories":["plans"]}`, 422, outside},
		"one inside, one outside":        {`{"repositories":["widget","gadget"]}`, 422, outside},
		"an id that does not exist":      {`{"repository_ids":[1]}`, 422, outside},
		"more than 500 of them":          {`{"repositories":[` + many + `]}`, 422, "A token can be limited to at most 500 repositories."},
		"the same one by name and by id": {fmt.Sprintf(`{"repositories":["widget"],"repository_ids":[%d]}`, s.widget.ID), 201, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.hub.Issued())
			wantReply(t, s.call("POST", s.tokens(), s.jwt(nil), test.body), test.status, test.message)
			if made := len(s.hub.Issued()) - before; (made == 1) != (test.status == 201) {
				t.Errorf("answered %d and made %d tokens", test.status, made)
			}
		})
	}
}

func TestATokenDoesWhatItMayAndNothingElse(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	release := s.hub.AddRelease("acme", "widget", "v1")
	writer := s.token(`{"repositories":["widget"],"permissions":{"contents":"write"}}`)
	reader := s.token(`{"repositories":["widget"],"permissions":{"issues":"read"}}`)
	upload := func(name string) string {
		return fmt.Sprintf("%s/repos/acme/widget/releases/%d/assets?name=%s", s.hub.UploadURL(), release, name)
	}
	const integration, missing = "Resource not accessible by integration", "Not Found"
	for _, test := range []struct {
		name, method, url, token, body string
		status                         int
		message, accepted              string
	}{
		{"upload", "POST", upload("a"), writer, "bytes", 201, "", ""},
		{"upload the same name", "POST", upload("a"), writer, "bytes", 422, "Validation Failed", ""},
		{"upload without a name", "POST", upload(""), writer, "bytes", 422, "Validation Failed", ""},
		{"upload with the wrong permission", "POST", upload("b"), reader, "bytes", 403, integration, "contents=write"},
		{"upload without a token", "POST", upload("b"), "", "bytes", 404, missing, ""},
		{"read its repository", "GET", "/repos/acme/widget", writer, "", 200, "", ""},
		{"read it in other letters", "GET", "/repos/Acme/WIDGET", writer, "", 200, "", ""},
		{"read it by id", "GET", fmt.Sprintf("/repositories/%d", s.widget.ID), writer, "", 200, "", ""},
		{"read releases without contents", "GET", "/repos/acme/widget/releases", reader, "", 403, integration, "contents=read"},
		{"read issues with contents alone", "GET", "/repos/acme/widget/issues", writer, "", 403, integration, "issues=read"},
		{"read issues", "GET", "/repos/acme/widget/issues", reader, "", 200, "", ""},
		{"write issues with read", "POST", "/repos/acme/widget/issues", reader, `{"title":"x"}`, 403, integration, "issues=write"},
		{"a private repository out of scope", "GET", "/repos/acme/gadget", writer, "", 404, missing, ""},
		{"a private repository elsewhere", "GET", "/repos/rival/plans", writer, "", 404, missing, ""},
		{"a repository that is not there", "GET", "/repos/acme/nothing", writer, "", 404, missing, ""},
		{"read a public one out of scope", "GET", "/repos/acme/docs/releases", writer, "", 200, "", ""},
		{"write a public one out of scope", "POST", "/repos/acme/docs/releases", writer, `{"tag_name":"v1"}`, 403, integration, "contents=write"},
		{"write a public one elsewhere", "POST", "/repos/rival/site/releases", writer, `{"tag_name":"v1"}`, 403, integration, "contents=write"},
		{"write a public one as nobody", "POST", "/repos/rival/site/releases", "", `{"tag_name":"v1"}`, 401, "Requires authentication", ""},
		{"read a public one as nobody", "GET", "/repos/rival/site", "", "", 200, "", ""},
		{"read a public one with a bad token", "GET", "/repos/rival/site", "ghs_wrong", "", 401, "Bad credentials", ""},
		{"a repository with the App's JWT", "GET", "/repos/acme/widget", s.jwt(nil), "", 403, integration, ""},
		{"end a token with the App's JWT", "DELETE", "/installation/token", s.jwt(nil), "", 403, integration, ""},
		{"end a token with nothing", "DELETE", "/installation/token", "", "", 401, "Requires authentication", ""},
		{"make a token with a token", "POST", s.tokens(), writer, `{}`, 401, "A JSON web token could not be decoded", ""},
		{"an unknown path", "GET", "/repos/acme/widget/secrets", writer, "", 404, missing, ""},
		{"a path with an empty segment", "GET", "/repos//acme/widget", writer, "", 404, missing, ""},
		{"a slash too many", "GET", "/repos/acme/widget/", writer, "", 404, missing, ""},
		{"an unknown method", "PUT", "/repos/acme/widget", writer, "", 404, missing, ""},
		{"an organization as a user", "GET", "/users/acme/installation", s.jwt(nil), "", 404, missing, ""},
		{"an organization", "GET", "/orgs/ACME/installation", s.jwt(nil), "", 200, "", ""},
		{"an organization without the App", "GET", "/orgs/rival/installation", s.jwt(nil), "", 404, missing, ""},
		{"a repository without the App", "GET", "/repos/acme/gadget/installation", s.jwt(nil), "", 404, missing, ""},
		{"an installation that is not there", "GET", "/app/installations/7", s.jwt(nil), "", 404, missing, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.call(test.method, test.url, test.token, test.body, "Content-Type", "application/octet-stream")
			wantReply(t, r, test.status, test.message)
			if got := r.header.Get("X-Accepted-GitHub-Permissions"); got != test.accepted {
				t.Errorf("X-Accepted-GitHub-Permissions %q, want %q", got, test.accepted)
			}
		})
	}
}

func TestOneAppCannotUseTheInstallationOfAnother(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	other := s.hub.AddApp(githubsim.App{Permissions: map[string]string{"contents": "read"}})
	s.app = other
	wantReply(t, s.call("POST", s.tokens(), s.jwt(nil), `{}`), 404, "Not Found")
}

func TestATokenEndsWithItsHourAndWithItsInstallation(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	first := s.token(`{}`)
	s.clock.advance(time.Hour - time.Second)
	wantReply(t, s.call("GET", "/repos/acme/widget", first, ""), 200, "")
	s.clock.advance(time.Second)
	wantReply(t, s.call("GET", "/repos/acme/widget", first, ""), 401, "Bad credentials")
	wantReply(t, s.call("DELETE", "/installation/token", first, ""), 401, "Bad credentials")

	second := s.token(`{}`)
	if live := s.hub.LiveTokens(); len(live) != 1 || live[0].Hash != hash(second) {
		t.Errorf("live: %+v", live)
	}
	s.hub.Uninstall(s.installation)
	wantReply(t, s.call("GET", "/repos/acme/widget", second, ""), 401, "Bad credentials")
	wantReply(t, s.call("POST", s.tokens(), s.jwt(nil), ``), 404, "Not Found")
	if live := s.hub.LiveTokens(); len(live) != 0 {
		t.Errorf("live after the end of the installation: %+v", live)
	}
	if again := s.hub.Install(s.app, "acme"); again == s.installation {
		t.Error("the new installation has the id of the old one")
	}
}

func TestRequestsThatGitHubTurnsAwayBeforeLooking(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	wantReply(t, s.call("GET", "/app", s.jwt(nil), "", "User-Agent", ""), 403,
		"Request forbidden by administrative rules. Please make sure your request has a User-Agent header.")
	wantReply(t, s.call("GET", "/app", s.jwt(nil), "", "X-GitHub-Api-Version", "2026-03-10"), 200, "")
	wantReply(t, s.call("GET", "/app", s.jwt(nil), "", "X-GitHub-Api-Version", "1999-01-01"), 400,
		"The API version in X-GitHub-Api-Version is not supported.")
}

// wantReply checks status and message, and that a refusal has GitHub's form.
func wantReply(t *testing.T, r reply, status int, message string) {
	t.Helper()
	if r.status != status {
		t.Fatalf("answered %d %s, want %d %q", r.status, r.body, status, message)
	}
	if r.header.Get("X-GitHub-Request-Id") == "" || r.header.Get("X-RateLimit-Remaining") == "" {
		t.Errorf("the answer lacks GitHub's headers: %v", r.header)
	}
	if status < http.StatusBadRequest {
		return
	}
	if got := r.field(t, "message"); got != message {
		t.Errorf("message %q, want %q", got, message)
	}
	if got := r.field(t, "status"); got != fmt.Sprint(status) {
		t.Errorf("status in the body %v, want the string %d", got, status)
	}
	if (r.field(t, "errors") != nil) != (message == "Validation Failed") {
		t.Errorf("errors: %v", r.field(t, "errors"))
	}
}
