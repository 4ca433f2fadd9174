package githubapp_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

const widgetID = 456789

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// appKey is one for all scenes: making them is slow.
var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// scene is a GitHub at noon, with an App on acme/widget.
type scene struct {
	hub          *githubsim.GitHub
	app          githubsim.App
	installation int64
}

func stage(t *testing.T, options githubsim.Options) scene {
	t.Helper()
	if options.Now == nil {
		options.Now = at(noon)
	}
	hub, err := githubsim.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	hub.AddRepository(githubsim.Repository{ID: widgetID, Owner: "acme", Name: "widget", Private: true})
	app := hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"contents": "write", "discussions": "write"}})
	return scene{hub: hub, app: app, installation: hub.Install(app, "acme", "widget")}
}

// client is the App with the given clock.
func (s scene) client(t *testing.T, change func(*githubapp.Config)) *githubapp.App {
	t.Helper()
	config := githubapp.Config{
		API: s.hub.URL(), ClientID: s.app.ClientID, Key: s.app.Key, Pause: time.Millisecond, Now: at(noon),
	}
	if change != nil {
		change(&config)
	}
	app, err := githubapp.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// seen counts the requests of one method that arrived.
func (s scene) seen(method string) (count int) {
	for _, r := range s.hub.Requests() {
		if r.Method == method {
			count++
		}
	}
	return count
}

func wants() githubapp.TokenRequest {
	return githubapp.TokenRequest{RepositoryIDs: []int64{widgetID}, Permissions: map[string]string{"discussions": "write"}}
}

// transport is a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
