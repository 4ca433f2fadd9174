package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	requestTimeout = 5 * time.Second // each of the two requests, body included
	maxDocument    = 256 << 10       // bytes of discovery document and key set, each
)

// A source reads an issuer's keys over the network: the discovery document, then
// the key set it names. Both are read anew each time, an issuer may move its keys.
// Where the operator says where the key set is, only that is read.
type source struct {
	url           string
	keysURL, file string   // at most one is set
	uses          []string // what a key's use may be
	client        *http.Client
}

func newSource(i Issuer, k kind) *source {
	uses := k.keyUses
	if uses == nil {
		uses = []string{"sig"}
	}
	return &source{url: i.URL, keysURL: i.KeysURL, file: i.KeysFile, uses: uses, client: &http.Client{
		Transport: guardedTransport(i),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // get sees the 3xx and refuses it
		},
	}}
}

// read returns the issuer's usable keys by kid, and why the others were left out.
func (s *source) read(ctx context.Context) (map[string]key, []string, error) {
	set, err := s.keySet(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, dropped, err := readKeys(set, s.uses)
	if err != nil {
		return nil, nil, fmt.Errorf("key set: %w", err)
	}
	return keys, dropped, nil
}

func (s *source) keySet(ctx context.Context) (map[string]any, error) {
	if s.file != "" {
		return s.fromFile()
	}
	location := s.keysURL
	if location == "" {
		var err error
		if location, err = s.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	set, err := s.get(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return set, nil
}

// discover asks the issuer where its key set is (OpenID Connect Discovery 1.0, 4.1 and
// 4.3).
func (s *source) discover(ctx context.Context) (string, error) {
	discovery, err := s.get(ctx, strings.TrimSuffix(s.url, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	if named, _ := discovery["issuer"].(string); named != s.url {
		return "", fmt.Errorf("the document is of issuer %s and not of %s", show(named), show(s.url))
	}
	location, _ := discovery["jwks_uri"].(string)
	if err := s.checkKeysURL(location); err != nil {
		return "", fmt.Errorf("jwks_uri %s: %w", show(location), err)
	}
	return location, nil
}

// fromFile reads the key set that the operator has put in a file.
func (s *source) fromFile() (map[string]any, error) {
	file, err := os.Open(s.file)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	defer func() { _ = file.Close() }() // only read from
	return s.document(file)
}

// checkKeysURL holds the key set to the issuer's own scheme, host and port: whoever
// may speak for another host is not whom the operator listed.
func (s *source) checkKeysURL(location string) error {
	issuer, err := url.Parse(s.url)
	if err != nil {
		return err
	}
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return errors.New("is not a URL") // not err: it quotes the whole
	case u.Scheme != issuer.Scheme || u.Host != issuer.Host:
		return errors.New("is not at the issuer's scheme and host")
	case u.User != nil || u.Fragment != "":
		return errors.New("has user information or a fragment")
	}
	return nil
}

// get reads one JSON object.
func (s *source) get(ctx context.Context, location string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered %d, want 200 (redirects are not followed)", response.StatusCode)
	}
	return s.document(response.Body)
}

// document reads a JSON object of bounded size.
func (s *source) document(from io.Reader) (map[string]any, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxDocument {
		return nil, fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	document, err := decodeObject(body)
	if err != nil {
		return nil, fmt.Errorf("the document %w", err)
	}
	return document, nil
}
