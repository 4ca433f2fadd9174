package identity

import (
	"context"
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
		mistakes = append(mistakes, i.Check())
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
	if strings.Contains(audience, boundPath) {
		return fmt.Errorf("the audience %q holds %s, which only the audiences of bound tokens do: use the exchange's own URL", audience, boundPath)
	}
	foreign := []string{"sts.amazonaws.com", "sigstore", "pypi", "api://azureadtokenexchange"}
	lower := strings.ToLower(audience)
	if slices.Contains(foreign, lower) || strings.HasPrefix(lower, "https://github.com/") || strings.Contains(lower, "iam.googleapis.com/") {
		return fmt.Errorf("the audience %q is that of another service: its tokens would be taken here; use the exchange's own URL", audience)
	}
	return nil
}

// Check returns every mistake in what the operator says of one issuer. It reads the file
// of keys, if there is one, and touches no network.
func (i Issuer) Check() error {
	var mistakes []error
	if !isName(i.Name) {
		mistakes = append(mistakes, errors.New("the name must be 1 to 64 lower-case letters, digits, '-', '_' or '.'"))
	}
	if _, ok := kindNamed(i.Kind); !ok {
		known := slices.Sorted(maps.Keys(kinds()))
		mistakes = append(mistakes, fmt.Errorf("kind %q is unknown, known: %s", i.Kind, strings.Join(known, ", ")))
	}
	mistakes = append(mistakes, i.checkKind(), i.checkKeys())
	if i.MaxAge < 0 || i.MaxAge > maxLifetime || (i.MaxAge > 0 && i.MaxAge < time.Second) {
		mistakes = append(mistakes, fmt.Errorf("max_age %s is not between 1s and %s", i.MaxAge, maxLifetime))
	}
	mistakes = append(mistakes, i.checkURL())
	if err := errors.Join(mistakes...); err != nil {
		return fmt.Errorf("issuer %q: %w", i.Name, err)
	}
	return nil
}

// checkKind checks what only some kinds have. A name that is that of a kind would mislead
// whoever reads a task file, and its schema, if it were of another.
func (i Issuer) checkKind() error {
	var mistakes []error
	if _, isKind := kindNamed(i.Name); isKind && i.Name != i.Kind {
		mistakes = append(mistakes, fmt.Errorf("the name %q is for an issuer of that kind, and this is one of kind %q", i.Name, i.Kind))
	}
	switch {
	case i.Kind == "spiffe" && !isTrustDomain(i.TrustDomain):
		mistakes = append(mistakes, errors.New("trust_domain is missing, or is not the name of a trust domain, as example.org: issuers of kind spiffe name workloads of that alone"))
	case i.Kind != "spiffe" && i.TrustDomain != "":
		mistakes = append(mistakes, errors.New("trust_domain is for issuers of kind spiffe"))
	}
	switch {
	case i.Kind == "oidc" && i.Job == nil:
		mistakes = append(mistakes, errors.New("job is missing: of issuers of kind oidc, the operator says which claims name the job, as job: {key: [project_id, job_id], pin: [project_id]}"))
	case i.Kind == "oidc":
		mistakes = append(mistakes, i.Job.check())
	case i.Job != nil:
		mistakes = append(mistakes, errors.New("job is for issuers of kind oidc; of others, it is known which claims name the job"))
	}
	return errors.Join(mistakes...)
}

// checkKeys checks where the operator says that the key set is.
func (i Issuer) checkKeys() error {
	switch {
	case i.KeysURL != "" && i.KeysFile != "":
		return errors.New("jwks_uri and jwks_file are both set; the keys are in one place")
	case i.KeysFile != "":
		return i.checkKeysFile()
	case i.KeysURL == "":
		return nil
	}
	if err := checkURL(i.KeysURL, i.Private, true); err != nil {
		return fmt.Errorf("jwks_uri: %w", err)
	}
	return nil
}

// checkKeysFile reads the file once, so that one that is missing or empty is found now and
// not by the first who asks.
func (i Issuer) checkKeysFile() error {
	k, _ := kindOf(i)
	keys, dropped, err := newSource(i, k).read(context.Background()) // no network
	switch {
	case err != nil:
		return fmt.Errorf("jwks_file: %w", err)
	case len(keys) == 0:
		return fmt.Errorf("jwks_file: no key in %s can be used; %s", i.KeysFile, strings.Join(dropped, "; "))
	}
	return nil
}

// checkURL checks the issuer's own URL, which of CircleCI names the organization.
func (i Issuer) checkURL() error {
	k, _ := kindOf(i)
	if err := checkURL(i.URL, i.Private, k.slash); err != nil {
		return err
	}
	if _, organization, found := strings.Cut(i.URL, "/org/"); i.Kind == "circleci" && (!found || !isUUID(organization)) {
		return fmt.Errorf("url %q does not end in /org/ and the organization's id, as CircleCI's issuers do", i.URL)
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
// way to write another issuer. slash: it may end in one.
func checkURL(text string, private, slash bool) error {
	u, err := url.Parse(text)
	plain := func(path string) string {
		if slash {
			return strings.TrimSuffix(path, "/")
		}
		return path
	}
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("url %q is not a URL with a host", text)
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return fmt.Errorf("url %q is not https (http is for private_network alone)", text)
	case u.User != nil || strings.ContainsAny(text, "?#@%\\"):
		return fmt.Errorf("url %q has user information, a query, a fragment or an escape", text)
	case strings.HasSuffix(text, "/") && !slash, strings.HasSuffix(text, "//"):
		return fmt.Errorf("url %q ends in a slash", text)
	case u.String() != text || strings.ToLower(u.Host) != u.Host || (plain(u.Path) != "" && path.Clean(u.Path) != plain(u.Path)):
		return fmt.Errorf("url %q is not in its plain form (lower-case host, no empty or dotted path segments)", text)
	}
	return nil
}
