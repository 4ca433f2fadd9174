package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzOctoRequest: whatever is sent, what is read is one well-formed scope and
// identity and one token, and names no task that is not listed for just these.
func FuzzOctoRequest(f *testing.F) {
	for _, query := range []string{
		"", "scope=acme/widget&scopes=acme/widget&identity=release", "scope=ACME/widget&identity=release", "scope=acme&identity=release",
		"scopes=acme/widget&scopes=acme/widget&identity=release", "scope=acme%2fwidget&identity=release%00", "scope=acme/widget;identity=release", "%zz", "&&&=",
	} {
		f.Add(true, query, "", "Bearer a.b.c")
		f.Add(false, "", query, "bearer a.b.c")
	}
	f.Add(true, "scope=acme/widget&identity=release", "", "Bearer  a.b.c")
	door := &OctoSTS{Tasks: map[OctoIdentity]string{{"acme/widget", "release"}: "publish-release"}}
	f.Fuzz(func(t *testing.T, get bool, query, body, authorization string) {
		r := httptest.NewRequest(http.MethodGet, "/sts/exchange", strings.NewReader(body))
		r.URL = &url.URL{Path: "/sts/exchange", RawQuery: query}
		r.Header = http.Header{"Authorization": {authorization}, "Content-Type": {"application/x-www-form-urlencoded"}}
		if !get {
			r.Method = http.MethodPost
		}
		request, asked, err := door.read(r)
		if err != nil {
			var refusal *octoRefusal
			if !errors.As(err, &refusal) || refusal.status != 400 && refusal.status != 401 || request.Task != "" {
				t.Fatalf("refused as %#v, with %+v", err, request)
			}
			return
		}
		if !octoScope.MatchString(asked.Scope) || asked.Scope != strings.ToLower(asked.Scope) || !octoIdentity.MatchString(asked.Identity) || !compactJWS.MatchString(request.SubjectToken.Reveal()) {
			t.Errorf("read as %+v", asked)
		}
		if listed := asked == (OctoIdentity{"acme/widget", "release"}); listed != (request.Task == "publish-release") {
			t.Errorf("%+v becomes the task %q", asked, request.Task)
		}
		if request.Holder != "" {
			t.Error("a holder without a proof")
		}
	})
}
