package githubsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// App is a GitHub App. Zero ids, an empty slug and a nil key are filled.
type App struct {
	ID          int64
	ClientID    string
	Slug        string
	Permissions map[string]string // metadata: read comes with any over repositories
	Key         *rsa.PrivateKey   // made when nil
}

// AddApp registers an App.
func (g *GitHub) AddApp(app App) App {
	for name, level := range app.Permissions {
		if !knownLevel(name, level) {
			panic(fmt.Sprintf("githubsim: GitHub has no permission %s: %s", name, level))
		}
	}
	if app.Key == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic("githubsim: making an App's key: " + err.Error())
		}
		app.Key = key
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if app.ID == 0 {
		app.ID = 1_000_000 + int64(len(g.apps)) + 1 // of the size of today's App ids
	}
	if app.ClientID == "" {
		app.ClientID = fmt.Sprintf("Iv23li%014d", app.ID)
	}
	if app.Slug == "" {
		app.Slug = fmt.Sprintf("app-%d", app.ID)
	}
	app.Permissions = withMetadata(app.Permissions)
	kept := app
	kept.Permissions = maps.Clone(app.Permissions)
	g.apps[app.ID] = &kept
	return app
}

// KeyPEM is the private key as GitHub lets one download it: PKCS #1 in PEM.
func (a App) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(a.Key),
	})
}

// appClaims are numbers where GitHub demands numbers; iss may be either.
type appClaims struct {
	Issuer   any      `json:"iss"`
	IssuedAt *float64 `json:"iat"`
	Expires  *float64 `json:"exp"`
}

const (
	longestAppJWT = 10 * time.Minute
	appJWTLeeway  = 60 * time.Second // that iat may be ahead
)

// verifyAppJWT finds the App behind a JWT. The words are GitHub's; that an
// unknown App is told 404 and not 401 as well. The caller holds g.mu.
func (g *GitHub) verifyAppJWT(value string) (*App, error) {
	undecodable := refuse(http.StatusUnauthorized, "A JSON web token could not be decoded")
	signed, err := jose.ParseSignedCompact(value, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, undecodable
	}
	var claims appClaims
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return nil, undecodable
	}
	app := g.appOfIssuer(claims.Issuer)
	if app == nil {
		return nil, refuse(http.StatusNotFound, "Integration not found")
	}
	if _, err := signed.Verify(app.Key.Public()); err != nil {
		return nil, undecodable
	}
	return app, claims.timely(g.opts.Now())
}

func (g *GitHub) appOfIssuer(iss any) *App {
	text, isText := iss.(string)
	if number, isNumber := iss.(float64); isNumber {
		text = strconv.FormatFloat(number, 'f', -1, 64)
	} else if !isText {
		return nil
	}
	for id, app := range g.apps {
		if text == app.ClientID || text == strconv.FormatInt(id, 10) {
			return app
		}
	}
	return nil
}

func (c appClaims) timely(now time.Time) error {
	at := float64(now.Unix())
	switch {
	case !whole(c.IssuedAt), *c.IssuedAt > at+appJWTLeeway.Seconds():
		return refuse(http.StatusUnauthorized, "'Issued at' claim ('iat') must be an Integer "+
			"representing the time that the assertion was issued")
	case !whole(c.Expires), *c.Expires <= at:
		return refuse(http.StatusUnauthorized, "'Expiration time' claim ('exp') must be a numeric value "+
			"representing the future time at which the assertion expires")
	case *c.Expires > at+longestAppJWT.Seconds():
		return refuse(http.StatusUnauthorized, "'Expiration time' claim ('exp') is too far in the future")
	}
	return nil
}

func whole(n *float64) bool { return n != nil && math.Trunc(*n) == *n }

func getApp(c *call) (answer, error) {
	return ok(map[string]any{
		"id": c.app.ID, "client_id": c.app.ClientID, "slug": c.app.Slug, "name": c.app.Slug,
		"permissions": c.app.Permissions, "events": []string{},
		"installations_count": len(c.g.installationsOf(c.app)),
	}), nil
}
