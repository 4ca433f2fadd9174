package vault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The server below is an imitation: what it does was read in the source of OpenBao's
// token store and in the documentation of both servers, and NOT verified against a real
// one. It is stricter than they are: a request in any other form than ours is refused.
// TestARealServerPassesTheSuite runs the same stories against a real one.

// clock is the one that the server and the backend share.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// token is one of the server's.
type token struct {
	id, accessor string
	policies     []string
	identity     []string // of its entity
	dies         time.Time
	uses         int // left; -1: any number
	meta         map[string]string
	display      string
}

// role is a token role.
type role struct {
	allowed   []string
	orphan    bool
	batch     bool
	period    int64 // seconds
	renewable bool
}

// fake is a server with a namespace "ci/" where it is named.
type fake struct {
	*clock
	*httptest.Server
	vault     bool // answers as Vault does where OpenBao does otherwise
	namespace string
	roles     map[string]role
	change    func(auth map[string]any) // of the next answers to create

	mu      sync.Mutex
	serial  int
	tokens  map[string]*token // by id
	lose    bool
	down    bool
	broken  http.HandlerFunc // answers instead, until taken back
	creates int
}

const own = "hvs.the-exchanges-own-token"

func start(t testing.TB) *fake {
	t.Helper()
	f := &fake{
		clock:  &clock{at: time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)},
		roles:  map[string]role{"stepkey": {allowed: []string{"deploy-web", "read-artifacts", "admin-db"}, orphan: true}},
		tokens: map[string]*token{},
	}
	f.tokens[own] = &token{id: own, policies: []string{"deploy-web", "read-artifacts", "admin-db", "stepkey"}, dies: f.now().Add(1000 * time.Hour), uses: -1}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// live counts the tokens of leases.
func (f *fake) live() (count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.tokens {
		if one.id != own && f.now().Before(one.dies) && one.uses != 0 {
			count++
		}
	}
	return count
}

type refusal struct {
	status int
	words  string
}

func (r refusal) Error() string { return r.words }

func refuse(status int, format string, args ...any) error {
	return refusal{status, fmt.Sprintf(format, args...)}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		f.broken(w, r)
		return
	}
	if f.down {
		panic(http.ErrAbortHandler) // the connection is closed without a word
	}
	answer, err := f.serve(r)
	if f.lose && strings.Contains(r.URL.Path, "/create") {
		f.lose = false
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	var refused refusal
	if errors.As(err, &refused) {
		w.WriteHeader(refused.status)
		answer = map[string]any{"errors": []string{refused.words}}
	} else if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	} else {
		answer["request_id"] = fmt.Sprint("request-", f.serial)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

var creating = regexp.MustCompile(`^/v1/auth/token/create(?:/([\w.-]+))?$`)

func (f *fake) serve(r *http.Request) (map[string]any, error) {
	f.serial++
	if r.Header.Get("X-Vault-Namespace") != f.namespace {
		return nil, refuse(404, "no handler for route %q. route entry not found.", r.URL.Path)
	}
	asking := f.tokens[r.Header.Get("X-Vault-Token")]
	if asking == nil || !f.now().Before(asking.dies) || asking.uses == 0 {
		return nil, refuse(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	}
	if asking.uses > 0 {
		asking.uses--
	}
	if secret, ok := strings.CutPrefix(r.URL.Path, "/v1/secret/data/"); ok && r.Method == http.MethodGet {
		if !slices.Contains(append(asking.policies, asking.identity...), secret) {
			return nil, refuse(403, "1 error occurred:\n\t* permission denied\n\n")
		}
		return map[string]any{"data": map[string]any{"data": map[string]any{"password": "p"}}}, nil
	}
	if !slices.Contains(asking.policies, "stepkey") {
		return nil, refuse(403, "1 error occurred:\n\t* permission denied\n\n")
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Vault-Request") != "true" {
		return nil, refuse(405, "1 error occurred:\n\t* unsupported operation\n\n")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refuse(400, "failed to read JSON input")
	}
	if at := creating.FindStringSubmatch(r.URL.Path); at != nil {
		return f.create(asking, at[1], body)
	}
	return f.byAccessor(r.URL.Path, body)
}

// strict reads a body that has these keys, each of its type, and no other.
func strict(body []byte, into any) error {
	in := json.NewDecoder(strings.NewReader(string(body)))
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return refuse(400, "failed to parse JSON input: %v", err)
	}
	return nil
}

func (f *fake) create(parent *token, named string, body []byte) (map[string]any, error) {
	var in struct {
		Policies        []string          `json:"policies"`
		NoDefaultPolicy bool              `json:"no_default_policy"`
		TTL             string            `json:"ttl"`
		ExplicitMaxTTL  string            `json:"explicit_max_ttl"`
		Renewable       *bool             `json:"renewable"`
		Type            string            `json:"type"`
		DisplayName     string            `json:"display_name"`
		NumUses         int               `json:"num_uses"`
		Meta            map[string]string `json:"meta"`
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	f.creates++
	by, known := f.roles[named]
	allowed := parent.policies
	switch {
	case named != "" && !known:
		return nil, refuse(400, "unknown role %s", named)
	case named != "":
		allowed = by.allowed
	}
	ttl, err := time.ParseDuration(in.TTL)
	longest, longErr := time.ParseDuration(in.ExplicitMaxTTL)
	switch {
	case err != nil || longErr != nil || ttl <= 0:
		return nil, refuse(400, "ttl must be positive")
	case in.Type != "service" || in.Renewable == nil || *in.Renewable || !in.NoDefaultPolicy || len(in.Policies) == 0 || ttl != longest:
		return nil, refuse(400, "this server takes no create that leaves a limit to it")
	case slices.Contains(in.Policies, "root"):
		return nil, refuse(400, "root tokens may not be created without parent token being root")
	}
	for _, policy := range in.Policies {
		if !slices.Contains(allowed, policy) {
			return nil, refuse(400, "child policies must be subset of parent")
		}
	}
	made := &token{
		id: fmt.Sprintf("hvs.CAESI%08d-a-token", f.serial), accessor: fmt.Sprintf("accessor-%08d", f.serial),
		policies: slices.Clone(in.Policies), dies: f.now().Add(ttl), uses: in.NumUses, meta: in.Meta,
		display: strings.TrimSuffix("token-"+regexp.MustCompile(`[^a-zA-Z0-9-]`).ReplaceAllString(in.DisplayName, "-"), "-"),
	}
	if made.uses == 0 {
		made.uses = -1
	}
	if !by.orphan {
		made.identity = parent.identity
	}
	return f.answerCreate(made, by, ttl, in.NumUses), nil
}

// answerCreate keeps the token, and says what it is.
func (f *fake) answerCreate(made *token, by role, ttl time.Duration, uses int) map[string]any {
	kind, seconds := "service", int64(ttl/time.Second)
	if by.period > 0 {
		seconds = by.period
		made.dies = f.now().Add(time.Duration(by.period) * time.Second)
	}
	f.tokens[made.id] = made
	if by.batch {
		kind, made.accessor = "batch", ""
	}
	all := slices.Concat(made.policies, made.identity)
	slices.Sort(all)
	auth := map[string]any{
		"client_token": made.id, "accessor": made.accessor, "policies": all, "token_policies": made.policies,
		"metadata": made.meta, "lease_duration": seconds, "renewable": by.renewable, "entity_id": "", "token_type": kind,
		"orphan": by.orphan, "num_uses": uses, "mfa_requirement": nil,
	}
	if len(made.identity) > 0 {
		auth["identity_policies"] = made.identity
	}
	answer := map[string]any{
		"lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "wrap_info": nil, "warnings": nil, "auth": auth,
	}
	if f.change != nil {
		f.change(answer)
	}
	return answer
}

func (f *fake) byAccessor(path string, body []byte) (map[string]any, error) {
	var in struct {
		Accessor string `json:"accessor"`
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	if in.Accessor == "" {
		return nil, refuse(400, "missing accessor")
	}
	var found *token
	for one := range maps.Values(f.tokens) {
		if one.accessor == in.Accessor && f.now().Before(one.dies) && one.uses != 0 {
			found = one
		}
	}
	switch path {
	case "/v1/auth/token/revoke-accessor":
		if found == nil && !f.vault {
			return map[string]any{"warnings": []string{"No token found with this accessor"}}, nil
		}
		if found == nil {
			return nil, refuse(400, "1 error occurred:\n\t* invalid accessor\n\n")
		}
		delete(f.tokens, found.id)
		return nil, nil
	case "/v1/auth/token/lookup-accessor":
		if found == nil {
			return nil, refuse(403, "1 error occurred:\n\t* invalid accessor\n\n")
		}
		return map[string]any{"data": map[string]any{"accessor": found.accessor, "id": "", "policies": found.policies, "display_name": found.display, "meta": found.meta}}, nil
	}
	return nil, refuse(404, "no handler for route %q", path)
}
