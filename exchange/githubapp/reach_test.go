package githubapp_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
)

func TestWhatAnAppReachesIsAskedAnewOnceItIsForgotten(t *testing.T) {
	s := stage(t, githubsim.Options{})
	app := s.client(t, nil)
	repo := s.hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "extra", Private: true})
	s.hub.Add(s.installation, "extra")
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"installed", func() {}, true},
		{"suspended", func() { s.hub.Suspend(s.installation) }, false},
		{"taken into use again", func() { s.hub.Unsuspend(s.installation) }, true},
		{"removed", func() { s.hub.Remove(s.installation, "extra") }, false},
		{"added again", func() { s.hub.Add(s.installation, "extra") }, true},
		{"uninstalled", func() { s.hub.Uninstall(s.installation) }, false},
	} {
		step.do()
		app.Forget(s.installation)
		if reached, err := app.Reaches(t.Context(), strconv.FormatInt(repo.ID, 10)); err != nil || reached != step.want {
			t.Errorf("%s: %v, %v", step.name, reached, err)
		}
	}
	if reached, err := app.Reaches(t.Context(), "acme/extra"); err == nil || reached {
		t.Errorf("by a name: %v, %v", reached, err)
	}
	s.hub.Fault(func(*http.Request) *githubsim.Fault { return &githubsim.Fault{Before: http.StatusForbidden} })
	if reached, err := app.Reaches(t.Context(), "1"); err == nil || reached {
		t.Errorf("no answer: %v, %v", reached, err)
	}
}
