package githubsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// answer is what a handler has to say. With bytes set they are the body.
type answer struct {
	status      int
	value       any
	bytes       []byte
	contentType string
	header      http.Header
}

func ok(value any) answer      { return answer{status: http.StatusOK, value: value} }
func created(value any) answer { return answer{status: http.StatusCreated, value: value} }
func noContent() answer        { return answer{status: http.StatusNoContent} }

// refusal is GitHub's "no": the error of handlers and doors.
type refusal struct {
	status  int
	message string
	errors  []detail
	header  http.Header
}

// detail is one entry of errors in a 422.
type detail struct {
	Resource string `json:"resource"`
	Code     string `json:"code"`
	Field    string `json:"field"`
	Message  string `json:"message,omitempty"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.message) }

func refuse(status int, message string) error { return &refusal{status: status, message: message} }

func notFound() error       { return refuse(http.StatusNotFound, "Not Found") }
func badCredentials() error { return refuse(http.StatusUnauthorized, "Bad credentials") }

func invalid(why detail) error {
	return &refusal{status: http.StatusUnprocessableEntity, message: "Validation Failed", errors: []detail{why}}
}

func unprocessable(message string) error {
	return refuse(http.StatusUnprocessableEntity, message)
}

// answer turns the refusal into GitHub's error object.
func (r *refusal) answer() answer {
	body := map[string]any{
		"message":           r.message,
		"documentation_url": "https://docs.github.com/rest",
		"status":            strconv.Itoa(r.status),
	}
	if len(r.errors) > 0 {
		body["errors"] = r.errors
	}
	return answer{status: r.status, value: body, header: r.header}
}

// body is the answer's bytes and their media type.
func (a answer) body() ([]byte, string) {
	if a.bytes != nil || a.value == nil {
		return a.bytes, a.contentType
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a.value); err != nil {
		panic(fmt.Sprintf("githubsim: an answer that is no JSON: %v", err))
	}
	return out.Bytes(), "application/json; charset=utf-8"
}

// conditional makes a 304 of a successful GET of the API whose content the
// client has. GitHub's entity tags are weak; so are these.
func (a answer) conditional(r *http.Request) answer {
	if r.Method != http.MethodGet || a.status != http.StatusOK || !strings.HasPrefix(r.URL.Path, apiPrefix) {
		return a
	}
	body, contentType := a.body()
	sum := sha256.Sum256(body)
	tag := `W/"` + hex.EncodeToString(sum[:]) + `"`
	header := a.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("ETag", tag)
	header.Set("Cache-Control", "private, max-age=60, s-maxage=60")
	if r.Header.Get("If-None-Match") == tag {
		return answer{status: http.StatusNotModified, header: header}
	}
	return answer{status: a.status, bytes: body, contentType: contentType, header: header}
}

// paged cuts the page asked for out of all and says in Link where others are.
func paged[T any](c *call, all []T, wrap func([]T) any) (answer, error) {
	size := positive(c.r.URL.Query().Get("per_page"), 30)
	if size > 100 {
		size = 100
	}
	page := positive(c.r.URL.Query().Get("page"), 1)
	last := max(1, (len(all)+size-1)/size)
	from := min((page-1)*size, len(all))
	a := ok(wrap(all[from:min(from+size, len(all))]))
	if page < last {
		a.header = http.Header{"Link": {
			c.pageLink(page+1, "next") + ", " + c.pageLink(last, "last"),
		}}
	}
	return a, nil
}

func (c *call) pageLink(page int, rel string) string {
	query, _ := url.ParseQuery(c.r.URL.RawQuery)
	query.Set("page", strconv.Itoa(page))
	return fmt.Sprintf("<%s%s?%s>; rel=%q", c.g.base, c.r.URL.EscapedPath(), query.Encode(), rel)
}

func positive(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1_000_000 {
		return n
	}
	return otherwise
}

// list is the plain JSON array, never null.
func list[T any](items []T) any {
	if items == nil {
		return []T{}
	}
	return items
}
