package policy

import (
	"slices"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Bind says what a subject token must be bound to, beyond the job that it names. The
// zero value demands nothing: then a token for the exchange's plain audience will do,
// too.
type Bind string

// BindRequest: to the exact request and to the key that makes it, by the audience that
// the token was asked for with. A token that leaks is then good for nothing.
const BindRequest Bind = "request"

func (r *reader) bind(n yamlfile.Node, allow []entry) Bind {
	var word string
	if !r.decode(n, &word) {
		return ""
	}
	if word != string(BindRequest) {
		r.refuse(n, "bind is %s; there is: %s", yamlfile.Quote(word), BindRequest)
		return ""
	}
	r.bindable(n, allow)
	return BindRequest
}

// madeBeforehand are the kinds whose tokens are in a variable or a file before the job
// begins, for an audience that stands in the pipeline, the pod or the agent's
// configuration. No request is known then.
var madeBeforehand = []string{"gitlab", "kubernetes", "spiffe"}

func (r *reader) bindable(n yamlfile.Node, allow []entry) {
	for _, e := range allow {
		if slices.Contains(madeBeforehand, e.kind) {
			r.find("bind-beforehand", n, "a token of kind %s is made before there is a request, so whom the entry %s lets in is refused as a rule", e.kind, e.rule)
			return
		}
	}
}

// explainBind tells what the task demands of the token, which claims at hand do not show.
func (t *Task) explainBind() []Told {
	if t.Bind == "" {
		return nil
	}
	return []Told{{Verdict: Unasked, What: checkBind, Words: string(t.Bind) + " (only the exchange sees whether a token is bound to the request)"}}
}
