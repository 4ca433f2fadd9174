package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
)

// What a task may and may not, by the registry's own word.
func TestTheRegistryRefusesWhatIsNotGranted(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, all := w.issue("{repositories: [acme/widget, acme/other], actions: [pull, push, delete]}")
		for _, repository := range []string{"acme/widget", "acme/other"} {
			token, err := w.token(t.Context(), all, "repository:"+repository+":pull,push")
			if err == nil {
				err = w.push(t.Context(), token, repository)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			block string
			can   map[string]bool
		}{
			{"{repositories: [acme/widget], actions: [pull]}", map[string]bool{"pull acme/widget": true}},
			{"{repositories: [acme/widget], actions: [pull, push]}", map[string]bool{"pull acme/widget": true, "push acme/widget": true}},
			{"{repositories: [acme/widget], actions: [pull, push], pull_from: [acme/other]}", map[string]bool{"pull acme/widget": true, "push acme/widget": true, "pull acme/other": true}},
			{"{repositories: [tools], actions: [pull]}", nil},
			{"{repositories: [acme/other], actions: [delete]}", map[string]bool{"delete acme/other": true}},
		} {
			w.doesOnly(c.block, c.can)
		}
	})
}

// doesOnly tries all there is with a credential for a block.
func (w *world) doesOnly(block string, can map[string]bool) {
	w.Helper()
	type trial func(context.Context, string, string) error
	_, values := w.issue(block)
	for name, try := range map[string]trial{"pull": w.pull, "push": w.push, "delete": w.remove, "catalog": w.catalog} {
		for _, repository := range []string{"acme/widget", "acme/other"} {
			token, err := w.token(w.Context(), values, "repository:"+repository+":pull,push,delete", "registry:catalog:*")
			if err != nil {
				w.Fatal(err)
			}
			err = try(w.Context(), token, repository)
			if want := can[name+" "+repository]; (err == nil) != want {
				w.Errorf("%s: %s %s: want it done: %t; %v", block, name, repository, want, err)
			}
			if err != nil && !strings.Contains(err.Error(), " 401,") {
				w.Errorf("%s: %s %s is not refused for what the token is: %v", block, name, repository, err)
			}
		}
	}
}

// The registry asks nobody about a token that is out. What we say of that must be true in
// both directions, and so it is tried with tokens that were signed some time ago.
func TestATokenThatIsOutDiesWhenItWasSaid(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		o := w.order(both)
		made, err := w.Issue(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := w.token(t.Context(), made.Values, "repository:acme/widget:pull,push")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Revoke(t.Context(), o.Lease, secret.String{}); err != nil {
			t.Fatal(err)
		}
		if err := w.push(t.Context(), fresh, "acme/widget"); err != nil {
			t.Errorf("a token that is out is refused at once, which would be better than what the page says: %v", err)
		}
		if _, err := w.token(t.Context(), made.Values); err == nil {
			t.Error("after the end there is another token")
		}
		w.diesInTime()
	})
}

// diesInTime tries tokens that were signed some time ago, in acme/widget, where
// there is an image.
func (w *world) diesInTime() {
	w.Helper()
	defer w.shiftTo(0)
	for ago, taken := range map[time.Duration]bool{
		30 * time.Second: true, 90 * time.Second: true, // by 30 s of the registry's leeway
		2*time.Minute + time.Second: false, 3 * time.Minute: false,
	} {
		w.shiftTo(-ago)
		_, values := w.issue(both)
		token, err := w.token(w.Context(), values, "repository:acme/widget:pull")
		if err != nil {
			w.Fatal(err)
		}
		status, _, err := w.call(w.Context(), token, http.MethodGet, "/v2/acme/widget/tags/list", nil)
		if err != nil || (status == http.StatusOK) != taken || (status == http.StatusUnauthorized) == taken {
			w.Errorf("a token of %s ago: want it taken: %t; the answer is %d, %v", ago, taken, status, err)
		}
	}
}

// Where it has a certificate alone, each version names the key in it by one style, and knows
// nothing of the other's.
func TestEachVersionKnowsACertificateByItsOwnStyle(t *testing.T) {
	for version, own := range map[int]string{2: "libtrust", 3: "thumbprint"} {
		for _, style := range []string{"libtrust", "thumbprint"} {
			t.Run(fmt.Sprintf("version %d, %s", version, style), func(t *testing.T) {
				w := kind{version, style, ecdsaKey, (*world).byCertificate}.found(t)
				_, values := w.issue(both)
				err := w.pushes("acme/widget")(t.Context(), values)
				if style == own && err != nil || style != own && (err == nil || !strings.Contains(err.Error(), " 401,")) {
					t.Errorf("pushing: %v", err)
				}
			})
		}
	}
}

// layout is an image as skopeo reads it.
func layout(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/blobs/sha256", 0o700); err != nil {
		t.Fatal(err)
	}
	config, manifest := image("skopeo")
	for _, blob := range [][]byte{config, manifest} {
		write(t, dir+"/blobs/sha256/"+strings.TrimPrefix(digest(blob), "sha256:"), blob)
	}
	write(t, dir+"/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write(t, dir+"/index.json", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`, manifestType, len(manifest), digest(manifest)))
	return dir
}

// A client that knows nothing of us works by the value config alone, and by the password as
// an identity token, which makes it ask by POST.
func TestSkopeoPushesAndPullsUntilTheEnd(t *testing.T) {
	needs.Programs(t, "skopeo")
	from := layout(t)
	onEach(t, func(t *testing.T, w *world) {
		lease, values := w.issue("{repositories: [acme/widget], actions: [pull, push]}")
		token, err := json.Marshal(map[string]any{"auths": map[string]any{w.Host: map[string]string{
			"auth": "PHRva2VuPjo=", "identitytoken": values["password"].Reveal(), // <token>: and nothing
		}}})
		if err != nil {
			t.Fatal(err)
		}
		logins := map[string][]byte{"the value config": []byte(values["config"].Reveal()), "an identity token": token}
		skopeo := func(login []byte, args ...string) error {
			file := t.TempDir() + "/auth.json"
			write(t, file, login)
			c := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy", "copy", "--authfile", file}, args...)...)
			said, err := c.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said)
			}
			return err
		}
		at := "docker://" + w.Host + "/acme/"
		for name, login := range logins {
			if err := skopeo(login, "--dest-tls-verify=false", "oci:"+from, at+"widget:v2"); err != nil {
				t.Errorf("pushing with %s: %v", name, err)
			}
			if err := skopeo(login, "--src-tls-verify=false", at+"widget:v2", "oci:"+t.TempDir()); err != nil {
				t.Errorf("pulling with %s: %v", name, err)
			}
			if err := skopeo(login, "--dest-tls-verify=false", "oci:"+from, at+"other:v2"); err == nil || !strings.Contains(err.Error(), "denied") && !strings.Contains(err.Error(), "unauthorized") {
				t.Errorf("pushing elsewhere with %s: %v", name, err)
			}
		}
		if err := w.Revoke(t.Context(), lease, secret.String{}); err != nil {
			t.Fatal(err)
		}
		for name, login := range logins {
			if err := skopeo(login, "--src-tls-verify=false", at+"widget:v2", "oci:"+t.TempDir()); err == nil || !strings.Contains(err.Error(), "lease that is live") {
				t.Errorf("after the end, with %s: %v", name, err)
			}
		}
	})
}
