package identity

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// checkConfiguration returns every mistake in what the operator configured.
func checkConfiguration(audience string, issuers []Issuer) error {
	mistakes := []error{checkOurAudience(audience)}
	if len(issuers) == 0 {
		mistakes = append(mistakes, errors.New("no issuer is configured: nobody could be let in"))
	}
	names, urls := map[string]bool{}, map[string]bool{}
	for _, i := range issuers {
		mistakes = append(mistakes, i.check())
		if names[i.Name] {
			mistakes = append(mistakes, fmt.Errorf("two issuers have the name %q", i.Name))
		}
		if urls[i.URL] {
			mistakes = append(mistakes, fmt.Errorf("two issuers have the url %q", i.URL))
		}
		names[i.Name], urls[i.URL] = true, true
	}
	return errors.Join(mistakes...)
}

// checkOurAudience keeps the audience one that only this exchange has. A token made
// for a cloud, or with GitHub's default, is in the hands of others by design.
func checkOurAudience(audience string) error {
	if audience == "" || len(audience) > 1024 {
		return errors.New("the audience is empty or longer than 1024 bytes: use the exchange's own URL")
	}
	for _, r := range audience {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("the audience %q holds a space or a character outside ASCII", audience)
		}
	}
	foreign := []string{"sts.amazonaws.com", "sigstore", "pypi", "api://azureadtokenexchange"}
	lower := strings.ToLower(audience)
	if slices.Contains(foreign, lower) || strings.HasPrefix(lower, "https://github.com/") || strings.Contains(lower, "iam.googleapis.com/") {
		return fmt.Errorf("the audience %q is that of another service: its tokens would be taken here; use the exchange's own URL", audience)
	}
	return nil
}

func (i Issuer) check() error {
	var mistakes []error
	if !isName(i.Name) {
		mistakes = append(mistakes, errors.New("the name must be 1 to 64 lower-case letters, digits, '-', '_' or '.'"))
	}
	if _, ok := kindNamed(i.Kind); !ok {
		known := slices.Sorted(maps.Keys(kinds()))
		mistakes = append(mistakes, fmt.Errorf("kind %q is unknown, known: %s", i.Kind, strings.Join(known, ", ")))
	}
	if i.MaxAge < 0 || i.MaxAge > maxLifetime || (i.MaxAge > 0 && i.MaxAge < time.Second) {
		mistakes = append(mistakes, fmt.Errorf("max_age %s is not between 1s and %s", i.MaxAge, maxLifetime))
	}
	mistakes = append(mistakes, checkURL(i.URL, i.Private))
	if err := errors.Join(mistakes...); err != nil {
		return fmt.Errorf("issuer %q: %w", i.Name, err)
	}
	return nil
}

func isName(name string) bool {
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	return name != "" && len(name) <= 64 && strings.IndexFunc(name, outside) < 0
}

// checkURL demands the form that iss has (OpenID Connect Discovery 1.0, 3, and
// stricter): what is not canonical would never equal a token's iss, or be a second
// way to write another issuer.
func checkURL(text string, private bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("url %q is not a URL with a host", text)
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return fmt.Errorf("url %q is not https (http is for private_network alone)", text)
	case u.User != nil || strings.ContainsAny(text, "?#@%\\"):
		return fmt.Errorf("url %q has user information, a query, a fragment or an escape", text)
	case strings.HasSuffix(text, "/"):
		return fmt.Errorf("url %q ends in a slash", text)
	case u.String() != text || strings.ToLower(u.Host) != u.Host || (u.Path != "" && path.Clean(u.Path) != u.Path):
		return fmt.Errorf("url %q is not in its plain form (lower-case host, no empty or dotted path segments)", text)
	}
	return nil
}
