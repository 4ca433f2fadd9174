package githubapp_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

const acmeID = 123456

// shelf is a GitHub whose acme/widget keeps task files, a clock, and a reader.
type shelf struct {
	*watch
	t     *testing.T
	files *githubapp.TaskFiles
}

func keepTasks(t *testing.T, options githubsim.Options) *shelf {
	t.Helper()
	w := &watch{at: noon}
	options.Now = w.now
	hub, err := githubsim.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	w.hub = hub
	hub.AddRepository(githubsim.Repository{ID: widgetID, Owner: "acme", OwnerID: acmeID, Name: "widget", Private: true})
	w.app = hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"contents": "write", "actions": "read"}})
	w.installation = hub.Install(w.app, "acme")
	hub.AddFile("acme", "widget", ".github/stepkey/release.yaml", []byte("release: 1\n"))
	hub.AddFile("acme", "widget", ".github/stepkey/deploy.yml", []byte("deploy: 1\n"))
	hub.AddFile("acme", "widget", ".github/stepkey/release.test.yaml", []byte("no task\n"))
	hub.AddFile("acme", "widget", ".github/stepkey/README.md", []byte("no task\n"))
	s := &shelf{watch: w, t: t}
	s.files, err = w.client(t, func(c *githubapp.Config) { c.Now = w.now }).TaskFiles([]string{fmt.Sprint(acmeID)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.files.Close(t.Context()) })
	return s
}

func (s *shelf) read() (*githubapp.TaskFolder, error) {
	return s.files.Of(s.t.Context(), fmt.Sprint(acmeID), "acme", "widget")
}

// asked counts the requests since the last call, by their answer's status.
func (s *shelf) asked(before *int) map[int]int {
	all := s.hub.Requests()
	count := map[int]int{}
	for _, r := range all[*before:] {
		count[r.Status]++
	}
	*before = len(all)
	return count
}

func contents(f *githubapp.TaskFolder) string {
	var all []string
	for _, name := range []string{"deploy.yml", "release.yaml"} {
		all = append(all, strings.TrimSpace(string(f.Files[name])))
	}
	return fmt.Sprintf("%d %d %s/%s %d files: %s", f.RepositoryID, f.OwnerID, f.Owner, f.Name, len(f.Files), strings.Join(all, ", "))
}

func TestTheTaskFilesOfARepositoryAreReadWithATokenThatCanDoNothingElse(t *testing.T) {
	s := keepTasks(t, githubsim.Options{FirstUseLag: 3})
	got, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	if want := "456789 123456 acme/widget 2 files: deploy: 1, release: 1"; contents(got) != want {
		t.Errorf("got  %s\nwant %s", contents(got), want)
	}
	live := s.hub.LiveTokens()
	if len(live) != 1 || fmt.Sprint(live[0].RepositoryIDs) != "[456789]" || fmt.Sprint(live[0].Permissions) != "map[contents:read metadata:read]" {
		t.Errorf("read with %+v", live)
	}
	if err := s.files.Close(t.Context()); err != nil || len(s.hub.LiveTokens()) != 0 {
		t.Errorf("after closing: %v, %d tokens live", err, len(s.hub.LiveTokens()))
	}
	if _, err := s.read(); err == nil {
		t.Error("a closed reader reads")
	}
}

func TestWhatWasReadIsUsedForHalfAMinuteAndThenOnlyWhatChangedIsReadAgain(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	seen := 0
	first, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	s.asked(&seen)
	s.wait(29 * time.Second)
	if got, err := s.read(); err != nil || got != first || len(s.hub.Requests()) != seen {
		t.Errorf("within 30 s: %v, %v", err, s.asked(&seen))
	}
	s.wait(2 * time.Second)
	got, err := s.read()
	if count := s.asked(&seen); err != nil || got.Version != first.Version || len(count) != 1 || count[http.StatusNotModified] != 2 {
		t.Errorf("nothing changed: %v, answered %v; want two 304, for the name and the list", err, count)
	}
	s.hub.AddFile("acme", "widget", ".github/stepkey/release.yaml", []byte("release: 2\n"))
	s.wait(31 * time.Second)
	got, err = s.read()
	if count := s.asked(&seen); err != nil || contents(got) != "456789 123456 acme/widget 2 files: deploy: 1, release: 2" || got.Version == first.Version || count[http.StatusOK] != 2 {
		t.Errorf("one changed: %v, answered %v; want two 200, for the list and the file", err, count)
	}
}

func TestManyWhoAskAtOnceMakeOneReading(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := s.read(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(s.hub.Requests()); n != 7 {
		t.Errorf("%d requests; want the installation, the token, the name twice, the list and two files", n)
	}
}

func TestWithoutGitHubWhatWasReadServesForAMinuteAndThenNothingDoes(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	if _, err := s.read(); err != nil {
		t.Fatal(err)
	}
	s.hub.Fault(func(*http.Request) *githubsim.Fault { return &githubsim.Fault{Before: http.StatusBadGateway} })
	s.wait(59 * time.Second)
	if _, err := s.read(); err != nil {
		t.Errorf("after 59 s: %v", err)
	}
	before := len(s.hub.Requests())
	if _, err := s.read(); err != nil || len(s.hub.Requests()) != before {
		t.Errorf("at once after: %v, asked %d times", err, len(s.hub.Requests())-before)
	}
	s.wait(time.Second)
	_, err := s.read()
	var answer *githubapp.Error
	if !errors.As(err, &answer) || !answer.Temporary() {
		t.Errorf("after a minute: %v", err)
	}
	s.hub.Fault(nil)
	s.wait(5 * time.Second)
	if _, err := s.read(); err != nil {
		t.Errorf("once GitHub answers: %v", err)
	}
}

func TestAnAppThatWasRemovedReadsNoMoreAndOneThatIsBackReadsAgain(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	if _, err := s.read(); err != nil {
		t.Fatal(err)
	}
	s.hub.Uninstall(s.installation)
	s.wait(31 * time.Second)
	if _, err := s.read(); !errors.Is(err, githubapp.ErrNoTaskFiles) {
		t.Errorf("after the removal: %v", err)
	}
	s.hub.Install(s.app, "acme")
	before := len(s.hub.Requests())
	if _, err := s.read(); !errors.Is(err, githubapp.ErrNoTaskFiles) || len(s.hub.Requests()) != before {
		t.Errorf("what is not there is asked for again within a minute: %v", err)
	}
	s.wait(time.Minute)
	if _, err := s.read(); err != nil {
		t.Errorf("after the App is back: %v", err)
	}
}

func TestAnAppThatWasInstalledAnewGoesOnReading(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	first, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	s.hub.Install(s.app, "acme")
	s.wait(31 * time.Second)
	if got, err := s.read(); err != nil || got.Version != first.Version {
		t.Errorf("%v", err)
	}
}

// A token of the repository before can read the next one of its name, if that is public.
func TestANameThatWasGivenToAnotherRepositoryIsNotTheOldOne(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	first, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	s.hub.AddRepository(githubsim.Repository{ID: 777, Owner: "acme", OwnerID: acmeID, Name: "widget"})
	s.hub.AddFile("acme", "widget", ".github/stepkey/release.yaml", []byte("release: of the new one\n"))
	s.wait(31 * time.Second)
	got, err := s.read()
	if err != nil || got.RepositoryID != 777 || len(got.Files) != 1 || got.Version == first.Version {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, token := range s.hub.LiveTokens() {
		if fmt.Sprint(token.RepositoryIDs) != "[777]" {
			t.Errorf("a token of the old repository lives: %+v", token)
		}
	}
}

func TestTheNextOwnerOfANameIsNotListedWithIt(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	if _, err := s.read(); err != nil {
		t.Fatal(err)
	}
	s.hub.AddRepository(githubsim.Repository{ID: 666, Owner: "acme", OwnerID: 999, Name: "widget"})
	s.hub.AddFile("acme", "widget", ".github/stepkey/release.yaml", []byte("release: theirs\n"))
	s.hub.Install(s.app, "acme") // they can install the App, too
	s.wait(31 * time.Second)
	if got, err := s.read(); !errors.Is(err, githubapp.ErrNoTaskFiles) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, r := range s.hub.Requests()[7:] {
		if strings.Contains(r.Path, "stepkey/") {
			t.Errorf("their files were read: %+v", r)
		}
	}
}

func TestAFolderThatCannotBeTakenSaysWhy(t *testing.T) {
	many := func(s *shelf) {
		for i := range 101 {
			s.hub.AddFile("acme", "widget", fmt.Sprintf(".github/stepkey/t%d.yaml", i), []byte("t\n"))
		}
	}
	huge := []byte(strings.Repeat("#\n", 128<<10+1))
	for name, c := range map[string]struct {
		change func(*shelf)
		says   string
	}{
		"a folder within": {func(s *shelf) { s.hub.AddFile("acme", "widget", ".github/stepkey/more/t.yaml", nil) }, "more among them is a folder"},
		"too many":        {many, "at most 100 are read"},
		"too large":       {func(s *shelf) { s.hub.AddFile("acme", "widget", ".github/stepkey/t.yaml", huge) }, "262146 bytes; at most 262144"},
		"too large together": {func(s *shelf) {
			for i := range 5 {
				s.hub.AddFile("acme", "widget", fmt.Sprintf(".github/stepkey/t%d.yaml", i), append([]byte{byte('a' + i)}, huge[4:]...))
			}
		}, "more than 1048576 bytes together"},
		"a file in its place": {func(s *shelf) {
			for _, f := range []string{"release.yaml", "deploy.yml", "release.test.yaml", "README.md"} {
				s.hub.RemoveFile("acme", "widget", ".github/stepkey/"+f)
			}
			s.hub.AddFile("acme", "widget", ".github/stepkey", []byte("a file"))
		}, "is no folder"},
	} {
		t.Run(name, func(t *testing.T) {
			s := keepTasks(t, githubsim.Options{})
			c.change(s)
			_, err := s.read()
			var answer *githubapp.Error
			if !errors.As(err, &answer) || answer.Temporary() || errors.Is(err, githubapp.ErrNoTaskFiles) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhereThereIsNothingItIsSaidAndNotAskedForAgainAtOnce(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	s.hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "bare"})
	for _, name := range []string{"bare", "none"} {
		for range 2 {
			if _, err := s.files.Of(t.Context(), "1", "acme", name); !errors.Is(err, githubapp.ErrNoTaskFiles) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, bad := range []string{"..", "widget.git", "wid get", ""} {
		before := len(s.hub.Requests())
		if _, err := s.files.Of(t.Context(), "1", "acme", bad); !errors.Is(err, githubapp.ErrNoTaskFiles) || len(s.hub.Requests()) != before {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if n := s.seen("POST"); n != 1 {
		t.Errorf("%d tokens were asked for, want 1", n)
	}
}

// little has GitHub say how much is left of the installation's limit.
func (s *shelf) little(left int, reset time.Time) {
	s.hub.Fault(func(*http.Request) *githubsim.Fault {
		return &githubsim.Fault{Header: http.Header{
			"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {fmt.Sprint(left)}, "X-Ratelimit-Reset": {fmt.Sprint(reset.Unix())},
		}}
	})
}

func TestTheLastTenthOfTheRateLimitIsLeftToTasksAndOnlyWhatIsFreeIsAsked(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	s.hub.AddRepository(githubsim.Repository{ID: 777, Owner: "acme", OwnerID: acmeID, Name: "gadget"})
	s.hub.AddFile("acme", "gadget", ".github/stepkey/release.yaml", []byte("release: 1\n"))
	gadget := func() error { _, err := s.files.Of(t.Context(), "1", "acme", "gadget"); return err }
	waits := func(what string, err error, until time.Time) {
		t.Helper()
		var refused *githubapp.Error
		if !errors.As(err, &refused) || !refused.RetryAt.Equal(until) || !refused.Temporary() || errors.Is(err, githubapp.ErrNoTaskFiles) {
			t.Errorf("%s: %v", what, err)
		}
	}
	reset := noon.Add(10 * time.Minute)
	s.little(500, reset) // a tenth
	first, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	s.little(499, reset)
	s.wait(31 * time.Second)
	seen := len(s.hub.Requests())
	for range 3 {
		if got, err := s.read(); err != nil || got.Version != first.Version {
			t.Fatalf("unchanged: %v", err)
		}
		s.wait(31 * time.Second)
	}
	if count := s.asked(&seen); len(count) != 1 || count[http.StatusNotModified] != 6 {
		t.Errorf("unchanged: answered %v; want six 304, which draw on no rate limit", count)
	}
	for range 2 {
		waits("a repository that was not read before", gadget(), reset)
	}
	if count := s.asked(&seen); count[http.StatusOK] != 1 || len(count) != 1 { // for whom the installation is, with the App's own limit
		t.Errorf("a repository that was not read before: answered %v", count)
	}
	s.hub.AddFile("acme", "widget", ".github/stepkey/release.yaml", []byte("release: 2\n"))
	if got, err := s.read(); err != nil || got.Version != first.Version {
		t.Errorf("changed, and what was read is not a minute old: %v", err)
	}
	s.wait(30 * time.Second)
	for range 2 {
		_, err := s.read()
		waits("changed", err, reset)
	}
	if count := s.asked(&seen); count[http.StatusOK] != 1 || count[http.StatusNotModified] != 1 {
		t.Errorf("changed: answered %v; want one 200, for the list", count)
	}
	s.little(4999, reset.Add(time.Hour))
	s.wait(reset.Sub(s.now()))
	if got, err := s.read(); err != nil || got.Version == first.Version {
		t.Errorf("once the limit is reset: %v", err)
	}
	if err := gadget(); err != nil {
		t.Errorf("once the limit is reset, another repository: %v", err)
	}
}

func TestAnInstallationThatAsksToBeLeftAloneIsLeftAloneByEveryReader(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	s.hub.AddRepository(githubsim.Repository{ID: 777, Owner: "acme", OwnerID: acmeID, Name: "gadget"})
	if _, err := s.read(); err != nil {
		t.Fatal(err)
	}
	s.wait(31 * time.Second)
	s.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if !strings.Contains(r.URL.Path, "/repos/acme/widget") || strings.HasSuffix(r.URL.Path, "/installation") {
			return nil
		}
		return &githubsim.Fault{Before: http.StatusForbidden, Header: http.Header{"Retry-After": {"900"}}, Body: `{"message":"You have exceeded a secondary rate limit."}`}
	})
	if _, err := s.read(); err != nil {
		t.Errorf("what was read half a minute ago: %v", err)
	}
	until := s.now().Add(15 * time.Minute)
	s.wait(30 * time.Second)
	seen := len(s.hub.Requests())
	for _, name := range []string{"widget", "gadget"} {
		_, err := s.files.Of(t.Context(), "1", "acme", name)
		var refused *githubapp.Error
		if !errors.As(err, &refused) || !refused.RetryAt.Equal(until) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if count := s.asked(&seen); count[http.StatusOK] > 1 || len(count) > 1 { // 200: which installation it is
		t.Errorf("answered %v", count)
	}
	s.hub.Fault(nil)
	s.wait(until.Sub(s.now()))
	if _, err := s.read(); err != nil {
		t.Errorf("once it is over: %v", err)
	}
}

func TestOneWhoNamesManyRepositoriesIsHeldToARate(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	for i := range 100 {
		_, err := s.files.Of(t.Context(), "stranger", "acme", fmt.Sprintf("guess-%d", i))
		if err == nil || (i >= 60) == errors.Is(err, githubapp.ErrNoTaskFiles) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if n := len(s.hub.Requests()); n != 60 {
		t.Errorf("%d requests", n)
	}
	if _, err := s.read(); err != nil {
		t.Errorf("another asker: %v", err)
	}
	s.wait(time.Minute)
	if _, err := s.files.Of(t.Context(), "stranger", "acme", "guess-99"); !errors.Is(err, githubapp.ErrNoTaskFiles) {
		t.Errorf("a minute later: %v", err)
	}
}

func TestTheCacheOfRepositoriesIsBounded(t *testing.T) {
	s := keepTasks(t, githubsim.Options{})
	if _, err := s.read(); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		s.wait(time.Second)
		_, _ = s.files.Of(t.Context(), fmt.Sprint(i), "acme", fmt.Sprintf("guess-%d", i))
	}
	if err := s.files.Close(t.Context()); err != nil || len(s.hub.LiveTokens()) != 0 {
		t.Errorf("a repository that made room left its token: %v, %d live", err, len(s.hub.LiveTokens()))
	}
}
