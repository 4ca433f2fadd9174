package identity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/stepkey/stepkey/exchange/identity"
)

func TestAMistakenConfigurationDoesNotStart(t *testing.T) {
	good := identity.Issuer{Name: "github", Kind: "github", URL: githubURL}
	with := func(change func(*identity.Issuer)) []identity.Issuer {
		i := good
		change(&i)
		return []identity.Issuer{i}
	}
	at := func(url string) []identity.Issuer { return with(func(i *identity.Issuer) { i.URL = url }) }
	for name, story := range map[string]struct {
		audience string
		issuers  []identity.Issuer
		says     string
	}{
		"no audience":            {"", with(func(*identity.Issuer) {}), "audience is empty"},
		"a space in it":          {"https://a b", with(func(*identity.Issuer) {}), "space"},
		"GitHub's default":       {"https://github.com/acme", with(func(*identity.Issuer) {}), "another service"},
		"a cloud's audience":     {"sts.amazonaws.com", with(func(*identity.Issuer) {}), "another service"},
		"another cloud's":        {"//iam.googleapis.com/projects/1/locations/global", with(func(*identity.Issuer) {}), "another service"},
		"a bound one":            {audience + "/bound/x", with(func(*identity.Issuer) {}), "audiences of bound tokens"},
		"no issuer":              {audience, nil, "no issuer"},
		"two of one name":        {audience, []identity.Issuer{good, {Name: "github", Kind: "github", URL: gheURL}}, "the name"},
		"two of one URL":         {audience, []identity.Issuer{good, {Name: "other", Kind: "github", URL: githubURL}}, "the url"},
		"an unknown kind":        {audience, with(func(i *identity.Issuer) { i.Name, i.Kind = "jenkins", "jenkins" }), "known: buildkite, circleci, forgejo, github, gitlab, kubernetes, oidc, spiffe"},
		"no kind":                {audience, with(func(i *identity.Issuer) { i.Kind = "" }), "unknown"},
		"no name":                {audience, with(func(i *identity.Issuer) { i.Name = "" }), "name must be"},
		"a name with quotes":     {audience, with(func(i *identity.Issuer) { i.Name = `a"b` }), "name must be"},
		"a negative age":         {audience, with(func(i *identity.Issuer) { i.MaxAge = -time.Second }), "max_age"},
		"an age without end":     {audience, with(func(i *identity.Issuer) { i.MaxAge = 100 * time.Hour }), "max_age"},
		"an age without a unit":  {audience, with(func(i *identity.Issuer) { i.MaxAge = 60 }), "max_age"},
		"no URL":                 {audience, at(""), "not a URL"},
		"a URL without host":     {audience, at("https://:443"), "not a URL"},
		"http":                   {audience, at("http://issuer.example"), "not https"},
		"ftp":                    {audience, at("ftp://issuer.example"), "not https"},
		"a slash at the end":     {audience, at(githubURL + "/"), "slash"},
		"a query":                {audience, at(githubURL + "?a=b"), "query"},
		"an empty query":         {audience, at(githubURL + "?"), "query"},
		"a fragment":             {audience, at(githubURL + "#"), "fragment"},
		"a user":                 {audience, at("https://user@issuer.example"), "user information"},
		"an escape":              {audience, at(githubURL + "/%61cme"), "escape"},
		"a host in upper case":   {audience, at("https://Issuer.example"), "lower-case"},
		"a scheme in upper case": {audience, at("HTTPS://issuer.example"), "plain form"},
		"an empty segment":       {audience, at(githubURL + "//acme"), "segments"},
		"a dotted segment":       {audience, at(githubURL + "/a/../acme"), "segments"},
		"a control character":    {audience, at(githubURL + "/\n"), "not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := identity.New(story.audience, story.issuers, identity.Options{})
			if err == nil || !strings.Contains(err.Error(), story.says) {
				t.Errorf("want an error that says %q, got %v", story.says, err)
			}
		})
	}
}

func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	_, err := identity.New("", []identity.Issuer{{Name: "A", Kind: "x", URL: "http://a/"}}, identity.Options{})
	for _, part := range []string{"audience", "name must be", "kind", "https"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not named in: %v", part, err)
		}
	}
}

func TestAnIssuerIsConfiguredInYAML(t *testing.T) {
	var i identity.Issuer
	text := "kind: github\nurl: https://github.acme.example/_services/token\nmax_age: 90s\nprivate_network: true\n"
	if err := yaml.UnmarshalWithOptions([]byte(text), &i, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	want := identity.Issuer{Kind: "github", URL: ghesURL, MaxAge: 90 * time.Second, Private: true}
	if i != want {
		t.Errorf("read %+v", i)
	}
}

func TestALongerAgeIsTakenWhereItIsConfigured(t *testing.T) {
	list := issuers()
	list[0].MaxAge = 5 * time.Minute
	v, err := identity.New(audience, list, identity.Options{Now: atPresent})
	if err != nil {
		t.Fatal(err)
	}
	v.ReachThrough(newNetwork(t))
	for iat, rule := range map[string]string{"-6m": "", "-361s": identity.RuleAge} {
		s := story{Times: map[string]string{"iat": iat, "exp": "5m"}}
		if _, err := v.Verify(t.Context(), s.build(t)); (rule == "") != (err == nil) || (err != nil && ruleOf(t, err) != rule) {
			t.Errorf("issued %s: %v", iat, err)
		}
	}
}
