package githubsim

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// tokenLife is always the same: there is no parameter for it.
const tokenLife = time.Hour

// token is an installation token. Its value is given away and not kept.
type token struct {
	hash         string
	installation *installation
	repositories []int64 // nil: all that the installation reaches, at any time
	permissions  map[string]string
	expires      time.Time
	revoked      bool
	lag, refused int // of FirstUseLag: left, and used up
	g            *GitHub
}

// TokenInfo is what is known of an installation token, without its value.
type TokenInfo struct {
	Hash           string // base64 of the SHA-256, as hashed_token in GitHub's audit log
	InstallationID int64
	RepositoryIDs  []int64 // that it reaches now
	Permissions    map[string]string
	ExpiresAt      time.Time
	Revoked        bool // by itself; a token also ends with its installation
}

// LiveTokens are those that GitHub would still take: not revoked, not expired,
// the installation still there and not suspended.
func (g *GitHub) LiveTokens() []TokenInfo {
	return g.tokenInfos((*token).live)
}

// Issued are all installation tokens ever made, in the order of making.
func (g *GitHub) Issued() []TokenInfo {
	return g.tokenInfos(func(*token) bool { return true })
}

func (g *GitHub) tokenInfos(wanted func(*token) bool) []TokenInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	var infos []TokenInfo
	for _, t := range g.issued {
		if wanted(t) {
			infos = append(infos, TokenInfo{
				Hash: t.hash, InstallationID: t.installation.id, RepositoryIDs: t.reach(),
				Permissions: maps.Clone(t.permissions), ExpiresAt: t.expires, Revoked: t.revoked,
			})
		}
	}
	return infos
}

func (t *token) live() bool {
	return !t.revoked && t.g.opts.Now().Before(t.expires) && t.g.installations[t.installation.id] != nil && t.installation.suspended.IsZero()
}

func (t *token) reach() []int64 {
	ids := []int64{}
	for _, r := range t.g.repositoriesOf(t.installation) {
		if t.repositories == nil || slices.Contains(t.repositories, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func (t *token) reaches(r *repository) bool { return slices.Contains(t.reach(), r.ID) }

// settle refuses the first uses of a new token, in the three ways seen.
func (t *token) settle(private bool) error {
	if t.lag == 0 {
		return nil
	}
	t.lag--
	t.refused++
	switch {
	case t.refused%3 == 0:
		return refuse(http.StatusForbidden, "Resource not accessible by integration")
	case t.refused%3 == 2 && private:
		return notFound()
	}
	return badCredentials()
}

func (g *GitHub) liveToken(value string) (*token, error) {
	if t := g.tokens[hashOf(value)]; t != nil && t.live() {
		return t, nil
	}
	return nil, badCredentials()
}

func (g *GitHub) tokenRoutes() []route {
	return []route{
		{"POST", apiPrefix + "/app/installations/{installation}/access_tokens", asApp, createToken},
		{"DELETE", apiPrefix + "/installation/token", asInstallation, revokeToken},
		{"GET", apiPrefix + "/installation/repositories", asInstallation, listReach},
	}
}

// revokeToken is the only way to end a token early, and only the token has it.
func revokeToken(c *call) (answer, error) {
	c.token.revoked = true
	return noContent(), nil
}

func listReach(c *call) (answer, error) {
	var all []any
	for _, r := range c.g.repositoriesOf(c.token.installation) {
		if c.token.reaches(r) {
			all = append(all, c.g.repositoryJSON(r))
		}
	}
	return paged(c, all, func(page []any) any {
		return map[string]any{
			"total_count": len(all), "repository_selection": c.token.selection(), "repositories": list(page),
		}
	})
}

func (t *token) selection() string {
	if t.repositories != nil {
		return "selected"
	}
	return t.installation.selection()
}
