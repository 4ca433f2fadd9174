package githubsim

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const mostRepositories = 500 // that one token can be limited to

type tokenRequest struct {
	Repositories  []string          `json:"repositories"`
	RepositoryIDs []int64           `json:"repository_ids"`
	Permissions   map[string]string `json:"permissions"`
}

func createToken(c *call) (answer, error) {
	i, err := c.ownInstallation()
	if err != nil {
		return answer{}, err
	}
	if !i.suspended.IsZero() {
		return answer{}, refuse(http.StatusForbidden, "This installation has been suspended")
	}
	asked, err := c.tokenRequest()
	if err != nil {
		return answer{}, err
	}
	permissions, err := i.grant(asked.Permissions)
	if err != nil {
		return answer{}, err
	}
	repositories, err := c.g.selectRepositories(i, asked)
	if err != nil {
		return answer{}, err
	}
	t := &token{
		g: c.g, installation: i, repositories: repositories, permissions: permissions,
		expires: c.g.opts.Now().Add(tokenLife).Truncate(time.Second), lag: c.g.opts.FirstUseLag,
	}
	value := c.g.tokenValue(c.r, t)
	t.hash = hashOf(value)
	c.g.tokens[t.hash] = t
	c.g.issued = append(c.g.issued, t)
	return created(t.json(value)), nil
}

// tokenRequest reads the body; an empty one asks for everything. Unknown fields
// are refused in the words of GitHub's schema check.
func (c *call) tokenRequest() (tokenRequest, error) {
	var asked tokenRequest
	if len(bytes.TrimSpace(c.body)) == 0 {
		return asked, nil
	}
	if !json.Valid(c.body) {
		return asked, refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(c.body))
	dec.DisallowUnknownFields()
	err := dec.Decode(&asked)
	if err == nil {
		return asked, nil
	}
	if field, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		return asked, unprocessable("Invalid request.\n\n" + field + " is not a permitted key.")
	}
	return asked, unprocessable("Invalid request.\n\nA property has a value of the wrong type.")
}

// grant says which permissions a token gets. Nothing asked means all there is.
// That an empty object means the same is assumed: it is what hurts most.
func (i *installation) grant(asked map[string]string) (map[string]string, error) {
	if len(asked) == 0 {
		return maps.Clone(i.permissions), nil
	}
	for name, level := range asked {
		if levelsOf(name) == "" {
			return nil, unprocessable(fmt.Sprintf("Invalid request.\n\n%q is not a permitted key.", name))
		}
		if !knownLevel(name, level) {
			return nil, unprocessable(fmt.Sprintf("Invalid request.\n\n%s is not a level of %s.", level, name))
		}
		if !includes(i.permissions, name, level) {
			return nil, unprocessable("The permissions requested are not granted to this installation.")
		}
	}
	return withMetadata(asked), nil
}

// selectRepositories gives the ids asked for, by name and by id together; nil
// when none was. That an empty list counts as none is assumed.
func (g *GitHub) selectRepositories(i *installation, asked tokenRequest) ([]int64, error) {
	count := len(asked.Repositories) + len(asked.RepositoryIDs)
	if count == 0 {
		return nil, nil
	}
	if count > mostRepositories {
		return nil, unprocessable(fmt.Sprintf("A token can be limited to at most %d repositories.", mostRepositories))
	}
	wanted := map[int64]bool{}
	for _, id := range asked.RepositoryIDs {
		wanted[id] = true
	}
	for _, name := range asked.Repositories {
		if r := g.repository(i.account.login, name); r != nil {
			wanted[r.ID] = true
		} else {
			wanted[0] = true // no repository has it
		}
	}
	var ids []int64
	for _, r := range g.repositoriesOf(i) {
		if wanted[r.ID] {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) != len(wanted) {
		return nil, unprocessable("There is at least one repository that does not exist " +
			"or is not accessible to the parent installation.")
	}
	return ids, nil
}

// json is the answer to a create. That repositories are listed only when some
// were asked for is assumed.
func (t *token) json(value string) map[string]any {
	body := map[string]any{
		"token": value, "expires_at": stamp(t.expires),
		"permissions": t.permissions, "repository_selection": t.selection(),
	}
	if t.repositories != nil {
		var repositories []any
		for _, id := range t.reach() {
			repositories = append(repositories, t.g.repositoryJSON(t.g.repositoryByID(id)))
		}
		body["repositories"] = repositories
	}
	return body
}

// tokenValue makes the secret, in the format the request or the options say.
func (g *GitHub) tokenValue(r *http.Request, t *token) string {
	stateless := g.opts.TokenFormat == Stateless
	switch r.Header.Get("X-GitHub-Stateless-S2S-Token") {
	case "enabled":
		stateless = true
	case "disabled":
		stateless = false
	}
	if !stateless {
		return "ghs_" + letters(36)
	}
	for {
		value := fmt.Sprintf("ghs_%d_%s", t.installation.app.ID, g.statelessJWT(t))
		if strings.Contains(value, "-") { // so that who forgets the hyphen finds out each time
			return value
		}
	}
}

// statelessJWT is the inside of a stateless token. What stands in GitHub's is
// not documented; only its form and its length of about 520 characters count.
func (g *GitHub) statelessJWT(t *token) string {
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: g.tokenKey, KeyID: "s2s-1"}}
	return compact(key, (&jose.SignerOptions{}).WithType("JWT"), map[string]any{
		"jti": randomHex(32),
		"iss": "github.example",
		"aud": g.URL(),
		"sub": fmt.Sprintf("installation:%d", t.installation.id),
		"iat": t.expires.Add(-tokenLife).Unix(),
		"exp": t.expires.Unix(),
		"sid": randomHex(36),
	})
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func letters(n int) string {
	text := make([]byte, 0, n)
	var b [1]byte
	for len(text) < n {
		_, _ = io.ReadFull(rand.Reader, b[:]) // crypto/rand never fails
		if int(b[0]) < 4*len(alphabet) {      // else some letters would come up more often
			text = append(text, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(text)
}

func randomHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // crypto/rand never fails
	return hex.EncodeToString(raw)
}
