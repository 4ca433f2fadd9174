package registry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/secret"
)

const endpoint = "/registry/token"

// get asks as docker, skopeo and crane do with a user name and a password.
func get(values map[string]secret.String, scopes ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, endpoint+"?"+url.Values{"service": {service}, "scope": scopes}.Encode(), nil)
	r.SetBasicAuth(values["username"].Reveal(), values["password"].Reveal())
	return r
}

func post(form url.Values) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// identity asks as clients do that keep the password as an identity token.
func identity(values map[string]secret.String, scopes ...string) *http.Request {
	return post(url.Values{
		"grant_type": {"refresh_token"}, "client_id": {"containers/image"}, "refresh_token": {values["password"].Reveal()},
		"service": {service}, "scope": scopes,
	})
}

// ask answers a request without any network.
func (w *world) ask(r *http.Request) answered {
	w.Helper()
	recorder := httptest.NewRecorder()
	w.mux().ServeHTTP(recorder, r)
	a, err := readAnswer(recorder.Code, recorder.Body)
	if err != nil {
		w.Fatalf("%s %s: the answer is no JSON: %v", r.Method, r.URL.Path, err)
	}
	if recorder.Header().Get("Cache-Control") != "no-store" {
		w.Errorf("the answer may be stored: %v", recorder.Header())
	}
	if basic := recorder.Header().Get("WWW-Authenticate") != ""; basic != (a.Status == http.StatusUnauthorized) {
		w.Errorf("status %d with the header %v", a.Status, recorder.Header())
	}
	return a
}

// can are a token's rights in words: "acme/widget pull,push".
func (w *world) can(a answered) []string {
	w.Helper()
	if a.Status != http.StatusOK {
		w.Fatalf("refused with %d: %s", a.Status, a.Description)
	}
	read, _ := verified(w.TB, w, a.Token)
	can := []string{}
	for _, one := range read.Access {
		if one.Type != "repository" {
			w.Errorf("access to a %q", one.Type)
		}
		can = append(can, one.Name+" "+strings.Join(one.Actions, ","))
	}
	return can
}

const both = "{repositories: [acme/widget], actions: [pull, push], pull_from: [acme/base]}"

func TestATokenHasWhatWasAskedForAndIsGranted(t *testing.T) {
	w := settle(t)
	_, values := w.issue(both)
	for name, c := range map[string]struct{ asked, want []string }{
		"nothing":                      {nil, []string{}},
		"an empty scope":               {[]string{""}, []string{}},
		"one":                          {[]string{"repository:acme/widget:pull"}, []string{"acme/widget pull"}},
		"in any order":                 {[]string{"repository:acme/widget:push,pull"}, []string{"acme/widget pull,push"}},
		"several parameters":           {[]string{"repository:acme/widget:pull", "repository:acme/base:pull"}, []string{"acme/base pull", "acme/widget pull"}},
		"several in one":               {[]string{"repository:acme/widget:pull repository:acme/base:pull"}, []string{"acme/base pull", "acme/widget pull"}},
		"one in two parts":             {[]string{"repository:acme/widget:pull", "repository:acme/widget:push"}, []string{"acme/widget pull,push"}},
		"twice":                        {[]string{"repository:acme/widget:pull,pull repository:acme/widget:pull"}, []string{"acme/widget pull"}},
		"more than granted":            {[]string{"repository:acme/base:pull,push,delete"}, []string{"acme/base pull"}},
		"only what is not granted":     {[]string{"repository:acme/base:push"}, []string{}},
		"elsewhere":                    {[]string{"repository:acme/other:pull"}, []string{}},
		"elsewhere too":                {[]string{"repository:acme/other:pull", "repository:acme/widget:pull"}, []string{"acme/widget pull"}},
		"everything by a star":         {[]string{"repository:acme/widget:*"}, []string{}},
		"every repository":             {[]string{"repository:*:pull", "repository::pull"}, []string{}},
		"the catalog":                  {[]string{"registry:catalog:*"}, []string{}},
		"a plugin":                     {[]string{"repository(plugin):acme/widget:pull"}, []string{}},
		"in capitals":                  {[]string{"Repository:acme/widget:pull", "repository:acme/Widget:pull", "repository:acme/widget:PULL"}, []string{}},
		"no actions":                   {[]string{"repository:acme/widget", "repository:acme/widget:", "repository:", ":", "::"}, []string{}},
		"with its registry":            {[]string{"repository:localhost:5000/acme/widget:pull"}, []string{}},
		"spaces and lines between":     {[]string{"  repository:acme/widget:pull\n\trepository:acme/base:pull "}, []string{"acme/base pull", "acme/widget pull"}},
		"a name that only begins like": {[]string{"repository:acme/widget/sub:pull", "repository:acme:pull"}, []string{}},
	} {
		for form, r := range map[string]*http.Request{"GET": get(values, c.asked...), "POST": identity(values, c.asked...)} {
			if diff := cmp.Diff(c.want, w.can(w.ask(r))); diff != "" {
				t.Errorf("%s by %s (-want +got):\n%s", name, form, diff)
			}
		}
	}
}

func TestEveryFormOfALoginIsAnswered(t *testing.T) {
	w := settle(t)
	lease, values := w.issue(both)
	scope := "repository:acme/widget:pull,push"
	username, password := values["username"].Reveal(), values["password"].Reveal()
	docker := get(values, scope)
	docker.URL.RawQuery += "&account=" + username + "&client_id=docker&offline_token=true"
	bare := get(values, scope)
	bare.URL.RawQuery = url.Values{"scope": {scope}}.Encode()
	for name, r := range map[string]*http.Request{
		"docker": docker, "without a service": bare, "an identity token": identity(values, scope),
		"containerd": post(url.Values{"grant_type": {"password"}, "client_id": {"containerd-client"}, "username": {username}, "password": {password}, "service": {service}, "scope": {scope}}),
	} {
		a := w.ask(r)
		if diff := cmp.Diff([]string{"acme/widget pull,push"}, w.can(a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		read, _ := verified(t, w, a.Token)
		if a.Token != a.AccessToken || a.ExpiresIn != 60 || a.Scope != scope {
			t.Errorf("%s: %+v", name, a)
		}
		if read.Issuer != issuer || read.Subject != string(lease) || !slices.Equal(read.Audience, []string{service}) || len(read.ID) != 22 ||
			read.Expiry.Time().Sub(read.IssuedAt.Time()) != time.Minute || !read.NotBefore.Time().Equal(read.IssuedAt.Time()) {
			t.Errorf("%s: the claims are %+v", name, read.Claims)
		}
	}
}

func TestABadLoginIsRefusedWithWords(t *testing.T) {
	w := settle(t)
	_, values := w.issue(both)
	_, other := w.issue(both)
	password := values["password"].Reveal()
	with := func(username, password string) *http.Request {
		return get(map[string]secret.String{"username": secret.New(username), "password": secret.New(password)})
	}
	anonymous, bearer, elsewhere, spelled, many := get(values), get(values), get(values), get(values), identity(values, strings.Repeat("repository:a:pull ", 101))
	anonymous.Header.Del("Authorization")
	bearer.Header.Set("Authorization", "Bearer "+password)
	elsewhere.URL.RawQuery = "service=another.example.com"
	spelled.URL.RawQuery = "service=%zz"
	inAddress := httptest.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"?grant_type=refresh_token&refresh_token="+password, nil)
	inAddress.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	untyped := identity(values)
	untyped.Header.Del("Content-Type")
	long := post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {password}, "x": {strings.Repeat("x", 70_000)}})
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		code   string
		says   string
	}{
		"nobody":                     {anonymous, 401, "invalid_grant", "log in"},
		"the password as a token":    {bearer, 401, "invalid_grant", "log in"},
		"another's password":         {with(values["username"].Reveal(), other["password"].Reveal()), 401, "invalid_grant", "not those of a lease"},
		"nobody's name":              {with("admin", password), 401, "invalid_grant", "not those of a lease"},
		"a guess":                    {with(values["username"].Reveal(), "skr_e30.AAAA"), 401, "invalid_grant", "not those of a lease"},
		"no password":                {with(values["username"].Reveal(), ""), 401, "invalid_grant", "not those of a lease"},
		"a long one":                 {with(values["username"].Reveal(), strings.Repeat("a.", 20_000)), 401, "invalid_grant", "not those of a lease"},
		"another service":            {elsewhere, 400, "invalid_request", "must have the same"},
		"an address that is none":    {spelled, 400, "invalid_request", "cannot be read"},
		"too much at once":           {many, 400, "invalid_request", "up to 100"},
		"an identity token of ours?": {post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}), 401, "invalid_grant", "not those of a lease"},
		"no grant":                   {post(url.Values{"refresh_token": {password}}), 400, "invalid_request", "no grant_type"},
		"another grant":              {post(url.Values{"grant_type": {"client_credentials"}}), 400, "unsupported_grant_type", "refresh_token or password"},
		"a password without a name":  {post(url.Values{"grant_type": {"password"}, "password": {password}}), 400, "invalid_request", "no username"},
		"a password in the address":  {inAddress, 400, "invalid_request", "no grant_type"},
		"a form of no type":          {untyped, 400, "invalid_request", "no grant_type"},
		"a form without end":         {long, 400, "invalid_request", "64 KiB"},
	} {
		a := w.ask(c.r)
		if a.Status != c.status || a.Error != c.code || !strings.Contains(a.Description, c.says) || a.Token != "" || len(a.Errors) != 1 || a.Errors[0].Message != a.Description {
			t.Errorf("%s: %+v; want %d, %s, …%s…", name, a, c.status, c.code, c.says)
		}
	}
}

func TestAfterTheEndNoTokenIsSigned(t *testing.T) {
	w := settle(t)
	lease, values := w.issue(both)
	w.can(w.ask(get(values)))
	if err := w.Revoke(t.Context(), lease, secret.String{}); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*http.Request{"GET": get(values), "POST": identity(values)} {
		if a := w.ask(r); a.Status != http.StatusUnauthorized || a.Error != "invalid_grant" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestALeaseThatTheStoreDoesNotKnowHasNoLogin(t *testing.T) {
	w := settle(t)
	made, err := w.Backend.Issue(t.Context(), w.order(both)) // and nobody wrote it down
	if err != nil {
		t.Fatal(err)
	}
	if a := w.ask(get(made.Values)); a.Status != http.StatusUnauthorized {
		t.Errorf("%+v", a)
	}
}

func TestWhileTheStoreDoesNotAnswerNothingIsClaimed(t *testing.T) {
	w := settle(t)
	lease, values := w.issue(both)
	w.ledger.fail(errDown)
	if a := w.ask(get(values)); a.Status != http.StatusServiceUnavailable || a.Error != "temporarily_unavailable" {
		t.Errorf("%+v", a)
	}
	if err := w.Revoke(t.Context(), lease, secret.String{}); err == nil {
		t.Error("it is called revoked, and nobody knows")
	}
	w.ledger.fail(nil)
	if err := w.Revoke(t.Context(), lease, secret.String{}); err != nil {
		t.Error(err)
	}
}

func TestWhatTheStoreHasAsLiveIsNotCalledRevoked(t *testing.T) {
	w := settle(t)
	lease, _ := w.issue(both)
	if err := w.Backend.Revoke(t.Context(), lease, secret.String{}); err == nil || !strings.Contains(err.Error(), "still taken") {
		t.Errorf("%v", err)
	}
}

// Whatever the store says, and however late somebody asks: no token is good for longer
// than the lease, and at its end there is none.
func TestNoTokenOutlivesItsLease(t *testing.T) {
	w := settle(t)
	o := w.order(both)
	made, err := w.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for late, life := range map[time.Duration]time.Duration{
		0: time.Minute, 8 * time.Minute: time.Minute, 9*time.Minute + 30*time.Second: 31 * time.Second,
		10*time.Minute + time.Second: 0, time.Hour: 0,
	} {
		w.shiftTo(late)
		a := w.ask(get(made.Values))
		if (a.Status == http.StatusOK) != (life > 0) {
			t.Errorf("%s late: %+v", late, a)
			continue
		}
		if a.Status != http.StatusOK {
			continue
		}
		read, _ := verified(t, w, a.Token)
		if end := read.Expiry.Time(); end.After(o.Until) || time.Duration(a.ExpiresIn)*time.Second > life || end.Add(2*time.Minute).After(made.DiesAt) {
			t.Errorf("%s late: it ends at %s, in %d s; the lease at %s, dead at %s", late, end, a.ExpiresIn, o.Until, made.DiesAt)
		}
	}
}

func TestPasswordsOutliveAChangeOfKeysAndNoChangeOfAnythingElse(t *testing.T) {
	before, next := opened(t, newKey(t), "libtrust"), opened(t, newKey(t), "libtrust")
	w := settle(t, before)
	_, values := w.issue(both)
	open := func(service string, keys ...*registry.Key) {
		l := limits("registry.example.com")
		l.Service = service
		w.Backend = registry.New(registry.Options{Limits: l, Keys: keys, Usable: w.ledger.usable, Now: w.now})
	}
	open(service, next, before)
	w.can(w.ask(get(values))) // signed by the next key, which is served
	open(service, next)
	if a := w.ask(get(values)); a.Status != http.StatusUnauthorized {
		t.Errorf("with the old key gone: %+v", a)
	}
	open("another", before)
	r := get(values)
	r.URL.RawQuery = ""
	if a := w.ask(r); a.Status != http.StatusUnauthorized {
		t.Errorf("for another service: %+v", a)
	}
}

func TestAPasswordThatIsAlteredIsNone(t *testing.T) {
	w := settle(t)
	_, values := w.issue(both)
	password := values["password"].Reveal()
	rapid.Check(t, func(r *rapid.T) {
		at := rapid.IntRange(0, len(password)).Draw(r, "at")
		to := rapid.IntRange(at, min(at+2, len(password))).Draw(r, "to")
		altered := password[:at] + rapid.StringOfN(rapid.RuneFrom([]rune("AaZz09-_.=+/ \u00e9")), 0, 2, -1).Draw(r, "text") + password[to:]
		if altered == password {
			return
		}
		form := map[string]secret.String{"username": values["username"], "password": secret.New(altered)}
		for _, request := range []*http.Request{get(form), identity(form)} {
			if a := w.ask(request); a.Status == http.StatusOK {
				r.Fatalf("%q is taken", altered)
			}
		}
	})
}

// Whatever comes: an answer in form, no fault of ours, and a token only for who shows a
// whole password, for no more than it grants.
func FuzzTheTokenEndpoint(f *testing.F) {
	w := settle(f)
	_, values := w.issue(both)
	username, password := values["username"].Reveal(), values["password"].Reveal()
	asked := url.Values{"service": {service}, "scope": {"repository:acme/widget:push,pull repository:acme/other:*", "registry:catalog:*"}}
	grant := identity(values, "repository:acme/base:pull,push")
	_ = grant.ParseForm()
	f.Add(true, get(values).Header.Get("Authorization"), asked.Encode(), "")
	f.Add(false, "", "", grant.PostForm.Encode())
	f.Add(false, "", "", url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}, "scope": {"repository:a:b:c"}}.Encode())
	f.Add(true, "Basic ====", "scope=%", "")
	f.Add(true, "Basic OnNrcl8u", "scope=repository:acme/widget:pull;scope=x", "")
	f.Add(false, "Basic", "grant_type=refresh_token&refresh_token="+password, "grant_type=refresh_token&grant_type=x&refresh_token=skr_.")
	f.Fuzz(func(t *testing.T, isGet bool, authorization, query, body string) {
		method := http.MethodPost
		if isGet {
			method = http.MethodGet
		}
		r := httptest.NewRequestWithContext(t.Context(), method, endpoint, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{authorization}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		recorder := httptest.NewRecorder()
		w.mux().ServeHTTP(recorder, r)
		a, err := readAnswer(recorder.Code, recorder.Body)
		switch {
		case err != nil:
			t.Fatalf("no JSON: %v", err)
		case a.Status != http.StatusOK:
			if a.Status >= http.StatusInternalServerError || a.Token != "" || a.Error == "" || a.Description == "" || strings.Contains(a.Description, password) {
				t.Errorf("%+v", a)
			}
			return
		}
		if user, shown, _ := r.BasicAuth(); (!isGet || user != username || shown != password) && r.PostFormValue("refresh_token") != password && r.PostFormValue("password") != password {
			t.Errorf("nobody showed the password: %+v", a)
		}
		read, _ := verified(t, w, a.Token)
		for _, one := range read.Access {
			if granted := map[string][]string{"acme/widget": {"pull", "push"}, "acme/base": {"pull"}}[one.Name]; one.Type != "repository" || len(one.Actions) == 0 ||
				slices.ContainsFunc(one.Actions, func(action string) bool { return !slices.Contains(granted, action) }) {
				t.Errorf("access to %+v", one)
			}
		}
	})
}

// An order that cannot be filled is refused before there is anything.
func TestAnOrderThatCannotBeFilledIsRefused(t *testing.T) {
	w := settle(t)
	o := w.order(both)
	elsewhere := registry.New(registry.Options{Limits: limits("other.example.com"), Keys: []*registry.Key{opened(t, newKey(t), "libtrust")}, Now: w.now})
	for says, issue := range map[string]func() (backend.Issued, error){
		"there is no key that signs":       func() (backend.Issued, error) { return registry.New(registry.Options{}).Issue(t.Context(), o) },
		"the configuration has another":    func() (backend.Issued, error) { return elsewhere.Issue(t.Context(), o) },
		"a password would be dead already": func() (backend.Issued, error) { w.shiftTo(time.Hour); return w.Backend.Issue(t.Context(), o) },
	} {
		if made, err := issue(); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), backend.ErrNotCreated.Error()) || len(made.Values) > 0 {
			t.Errorf("want …%s…: %v, %v", says, made, err)
		}
	}
}
