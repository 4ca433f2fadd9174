package githubsim_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-github/v60/github"

	"github.com/stepkey/stepkey/internal/githubsim"
)

func installationPath(id int64) string { return fmt.Sprintf("/app/installations/%d", id) }

// One release, as go-github sees it: from the App's key to an asset, no further
// than the token reaches, and over when the token has ended itself.
func TestAnAppsKeyBecomesATokenThatUploadsAnAssetAndEndsItself(t *testing.T) {
	s, ctx := newScene(t, githubsim.Options{}), t.Context()
	releaseID := s.hub.AddRelease("acme", "widget", "v1.0.0")

	asApp := s.client(s.jwt(nil))
	found, _, err := asApp.Apps.FindRepositoryInstallation(ctx, "acme", "widget")
	if err != nil {
		t.Fatal(err)
	}
	if found.GetID() != s.installation || found.GetTargetType() != "Organization" || found.GetAppID() != s.app.ID {
		t.Errorf("found installation %d on a %s of App %d", found.GetID(), found.GetTargetType(), found.GetAppID())
	}
	if byID, _, err := asApp.Apps.FindRepositoryInstallationByID(ctx, s.widget.ID); err != nil || byID.GetID() != s.installation {
		t.Errorf("by the repository's id: %d, %v", byID.GetID(), err)
	}
	made, _, err := asApp.Apps.CreateInstallationToken(ctx, found.GetID(), &github.InstallationTokenOptions{
		RepositoryIDs: []int64{s.widget.ID},
		Permissions:   &github.InstallationPermissions{Contents: github.String("write")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Repositories) != 1 || made.Repositories[0].GetID() != s.widget.ID {
		t.Errorf("the token names repositories %v", made.Repositories)
	}
	if life := made.GetExpiresAt().Sub(s.clock.Now()); life.Hours() != 1 {
		t.Errorf("the token lives %v", life)
	}

	asStep := s.client(made.GetToken())
	path := filepath.Join(t.TempDir(), "widget.tar.gz")
	if err := os.WriteFile(path, []byte("the widget"), 0o600); err != nil {
		t.Fatal(err)
	}
	upload := func() error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, _, err = asStep.Repositories.UploadReleaseAsset(ctx, "acme", "widget", releaseID,
			&github.UploadOptions{Name: "widget.tar.gz"}, file)
		return err
	}
	if err := upload(); err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"widget.tar.gz": []byte("the widget")}
	if diff := cmp.Diff(want, s.hub.Assets("acme", "widget", "v1.0.0")); diff != "" {
		t.Errorf("assets (-want +got):\n%s", diff)
	}

	_, _, err = asStep.Repositories.ListReleases(ctx, "acme", "gadget", nil)
	mustRefuse(t, err, http.StatusNotFound, "Not Found")
	_, _, err = asStep.Issues.Create(ctx, "acme", "widget", &github.IssueRequest{Title: github.String("x")})
	mustRefuse(t, err, http.StatusForbidden, "Resource not accessible by integration")

	if live := s.hub.LiveTokens(); len(live) != 1 || live[0].Hash != hash(made.GetToken()) {
		t.Errorf("live before the end: %+v", live)
	}
	if _, err := asStep.Apps.RevokeInstallationToken(ctx); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, upload(), http.StatusUnauthorized, "Bad credentials")
	_, err = asStep.Apps.RevokeInstallationToken(ctx)
	mustRefuse(t, err, http.StatusUnauthorized, "Bad credentials")
	if live := s.hub.LiveTokens(); len(live) != 0 {
		t.Errorf("live after the end: %+v", live)
	}
	if all := s.hub.Issued(); len(all) != 1 || !all[0].Revoked {
		t.Errorf("issued: %+v", all)
	}
}

// go-github does not know some permissions: they vanish on the way, and the
// token gets everything. Whoever uses v60's own call must see that here.
func TestATokenAskedWithoutPermissionsGetsAllThatTheAppHas(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	made, _, err := s.client(s.jwt(nil)).Apps.CreateInstallationToken(t.Context(), s.installation,
		&github.InstallationTokenOptions{Permissions: &github.InstallationPermissions{}})
	if err != nil {
		t.Fatal(err)
	}
	want := &github.InstallationPermissions{
		Actions: github.String("read"), Contents: github.String("write"),
		Issues: github.String("read"), Metadata: github.String("read"),
	}
	if diff := cmp.Diff(want, made.Permissions); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
	if reach := s.hub.LiveTokens()[0].RepositoryIDs; len(reach) != 2 {
		t.Errorf("reaches %v, want both repositories of the installation", reach)
	}
}

func TestReleasesAreMadeEditedAndDeletedThroughGoGitHub(t *testing.T) {
	s, ctx := newScene(t, githubsim.Options{}), t.Context()
	repos := s.client(s.token(`{}`)).Repositories
	made, _, err := repos.CreateRelease(ctx, "acme", "widget", &github.RepositoryRelease{
		TagName: github.String("v2/rc"), Draft: github.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = repos.GetReleaseByTag(ctx, "acme", "widget", "v2/rc")
	mustRefuse(t, err, http.StatusNotFound, "Not Found")
	reader := s.client(s.token(`{"permissions":{"contents":"read"}}`)).Repositories
	_, _, err = reader.GetRelease(ctx, "acme", "widget", made.GetID())
	mustRefuse(t, err, http.StatusNotFound, "Not Found")
	edited, _, err := repos.EditRelease(ctx, "acme", "widget", made.GetID(), &github.RepositoryRelease{Draft: github.Bool(false)})
	if err != nil || edited.GetTagName() != "v2/rc" || edited.PublishedAt == nil {
		t.Fatalf("publishing the draft: %+v, %v", edited, err)
	}
	if byTag, _, err := repos.GetReleaseByTag(ctx, "acme", "widget", "v2/rc"); err != nil || byTag.GetID() != made.GetID() {
		t.Errorf("by tag: %d, %v", byTag.GetID(), err)
	}
	_, _, err = repos.CreateRelease(ctx, "acme", "widget", &github.RepositoryRelease{TagName: github.String("v2/rc")})
	mustRefuse(t, err, http.StatusUnprocessableEntity, "Validation Failed")
	if _, err := repos.DeleteRelease(ctx, "acme", "widget", made.GetID()); err != nil {
		t.Fatal(err)
	}
	if left, _, err := repos.ListReleases(ctx, "acme", "widget", nil); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFilesAreReadListedAndWrittenThroughGoGitHub(t *testing.T) {
	s, ctx := newScene(t, githubsim.Options{}), t.Context()
	s.hub.AddFile("acme", "widget", ".stepkey/publish.yml", []byte("task: publish\n"))
	s.hub.AddFile("acme", "widget", ".stepkey/more/deploy.yml", []byte("task: deploy\n"))
	repos := s.client(s.token(`{}`)).Repositories
	_, entries, _, err := repos.GetContents(ctx, "acme", "widget", ".stepkey", nil)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, e := range entries {
		listed = append(listed, e.GetType()+" "+e.GetPath())
	}
	if diff := cmp.Diff([]string{"dir .stepkey/more", "file .stepkey/publish.yml"}, listed); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	file, _, _, err := repos.GetContents(ctx, "acme", "widget", ".stepkey/publish.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := file.GetContent(); err != nil || text != "task: publish\n" {
		t.Errorf("content %q, %v", text, err)
	}
	change := &github.RepositoryContentFileOptions{Message: github.String("change"), Content: []byte("new")}
	_, _, err = repos.UpdateFile(ctx, "acme", "widget", ".stepkey/publish.yml", change)
	mustRefuse(t, err, http.StatusUnprocessableEntity, "Invalid request.\n\n\"sha\" wasn't supplied.")
	change.SHA = file.SHA
	if _, _, err = repos.UpdateFile(ctx, "acme", "widget", ".stepkey/publish.yml", change); err != nil {
		t.Fatal(err)
	}
	_, _, err = repos.UpdateFile(ctx, "acme", "widget", ".stepkey/publish.yml", change)
	mustRefuse(t, err, http.StatusConflict, ".stepkey/publish.yml does not match "+file.GetSHA())
	_, _, err = repos.CreateFile(ctx, "acme", "widget", ".github/workflows/own.yml",
		&github.RepositoryContentFileOptions{Message: github.String("escape"), Content: []byte("on: push")})
	mustRefuse(t, err, http.StatusForbidden, "Resource not accessible by integration")
}

func mustRefuse(t *testing.T, err error, status int, message string) {
	t.Helper()
	var refused *github.ErrorResponse
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want %d %s", err, status, message)
	}
	if refused.Response.StatusCode != status || refused.Message != message {
		t.Errorf("refused with %d %q, want %d %q", refused.Response.StatusCode, refused.Message, status, message)
	}
	if refused.DocumentationURL == "" {
		t.Error("the refusal has no documentation_url")
	}
}

func hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.StdEncoding.EncodeToString(sum[:])
}
