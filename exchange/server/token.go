package server

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// token is POST /token, RFC 8693. An answer that cannot be written means that the
// client is gone: then so is its credential.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	request, err := f.tokenRequest()
	if err == nil {
		request.Holder, err = s.holder(r, request.SubjectToken)
	}
	if request.Holder != "" {
		request.Binding = client.Binding(request.Holder, f["scope"], f["authorization_details"])
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	given, err := s.Exchange.Token(r.Context(), request)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	response := tokenResponse(given, s.Exchange.Now())
	response.AuthorizationDetails = granted(request, given.Lease)
	if err := s.answer(w, r, http.StatusOK, response); err != nil {
		if err := s.Exchange.Abandon(r.Context(), given); err != nil {
			s.Log.ErrorContext(r.Context(), "a credential nobody received is not ended yet; the keeper goes on", "lease", given.Lease.ID, "error", err)
		}
	}
}

// revoke is POST /revoke, RFC 7009. A token that is unknown or ended is a success
// (section 2.2); an end that is not confirmed yet is a 503, after which a client
// must assume that the token still works (section 2.2.1).
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err == nil && f["token"] == "" {
		err = bad("token is missing; send a lease token, or the credential's own token")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	asked := s.Exchange.Now()
	ended, err := s.end(r, f)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	for _, l := range ended {
		if !l.State.Final() {
			s.refuse(w, r, &notYetEnded{l})
			return
		}
	}
	s.answerOrLog(w, r, http.StatusOK, revocation(ended, asked))
}

// end reads a job's hint with two additions of ours: lease, the id of the one lease of
// the job that is meant, or scope, the task whose leases are; without either, all.
func (s *Server) end(r *http.Request, f form) ([]exchange.Lease, error) {
	token, id := secret.New(f["token"]), f["lease"]
	var l exchange.Lease
	var found bool
	var err error
	switch ofJob := f["token_type_hint"] == client.TokenTypeJob; {
	case id != "" && !ofJob:
		return nil, bad("lease names one of a job's leases, so token must be the job's subject token, and token_type_hint %s; a lease token alone names its lease", client.TokenTypeJob)
	case id != "":
		l, found, err = s.Exchange.EndJobsLease(r.Context(), token, id)
	case ofJob:
		return s.Exchange.EndJob(r.Context(), token, f["scope"])
	default:
		l, found, err = s.Exchange.EndByToken(r.Context(), token)
	}
	if err != nil || !found {
		return nil, err
	}
	return []exchange.Lease{l}, nil
}

// introspect is POST /introspect, RFC 7662. Whoever holds a lease token may see
// that lease; holding it is the authorization that section 2.1 asks for.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err == nil && f["token"] == "" {
		err = bad("token is missing; send a lease token")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	l, found, err := s.Exchange.Inspect(r.Context(), secret.New(f["token"]))
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case !found:
		s.answerOrLog(w, r, http.StatusOK, client.Introspection{})
	default:
		s.answerOrLog(w, r, http.StatusOK, introspection(l, s.URL, s.Exchange.Now()))
	}
}

// answerOrLog is for answers that nothing depends on.
func (s *Server) answerOrLog(w http.ResponseWriter, r *http.Request, status int, v any) {
	if err := s.answer(w, r, status, v); err != nil {
		s.Log.InfoContext(r.Context(), "an answer did not arrive", "path", r.URL.Path, "error", err)
	}
}

// answer writes v as JSON and reports whether it got out of our hands.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		s.Log.ErrorContext(r.Context(), "an answer could not be encoded", "path", r.URL.Path, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

func tokenResponse(a exchange.Answer, now time.Time) client.TokenResponse {
	values := map[string]string{}
	for name, v := range a.Values {
		values[name] = v.Reveal()
	}
	env := map[string]string{}
	for variable, name := range a.Env {
		env[variable] = values[name]
	}
	access, ok := values["token"]
	if !ok {
		access = a.LeaseToken.Reveal() // a credential that is no token, such as a database login, is stood for by its lease
	}
	return client.TokenResponse{
		AccessToken:     access,
		IssuedTokenType: client.TokenTypeAccessToken,
		TokenType:       "Bearer", // also after a DPoP proof: see dpop.go
		ExpiresIn:       int64(a.Lease.EndsAt.Sub(now) / time.Second),
		Scope:           a.Lease.Task,
		Lease: client.Lease{
			ID: string(a.Lease.ID), Token: a.LeaseToken.Reveal(),
			EndsAt: timestamp(a.Lease.EndsAt), DiesAt: timestamp(a.Lease.DiesAt),
			Revocable: a.Lease.Revocable, Remains: a.Remains, Granted: a.Lease.Granted,
		},
		Credential: client.Credential{Kind: a.Lease.Backend, Values: values, Env: env, Public: a.Public},
	}
}

// revocation tells a lease that had ended before from one that this call ended. The
// store keeps microseconds.
func revocation(ended []exchange.Lease, asked time.Time) client.Revocation {
	out := client.Revocation{Leases: []client.Ended{}}
	for _, l := range ended {
		e := client.Ended{ID: string(l.ID), State: string(l.State)}
		if l.Ended.Before(asked.Truncate(time.Microsecond)) {
			e.EndedAt = timestamp(l.Ended)
		}
		out.Leases = append(out.Leases, e)
	}
	return out
}

func introspection(l exchange.Lease, issuer string, now time.Time) client.Introspection {
	seen := client.Introspection{
		Active: l.Usable(now), LeaseID: string(l.ID), State: string(l.State),
		Reason: l.Reason, EndedAt: timestamp(l.Ended),
	}
	if !seen.Active {
		return seen
	}
	seen.Scope, seen.TokenType, seen.Iss, seen.Sub, seen.Granted = l.Task, "Bearer", issuer, l.JobName, l.Granted
	seen.Exp, seen.Iat = l.EndsAt.Unix(), l.Created.Unix()
	seen.EndsAt, seen.DiesAt = timestamp(l.EndsAt), timestamp(l.DiesAt)
	return seen
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
