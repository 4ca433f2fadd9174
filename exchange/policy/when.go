package policy

import (
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// maxWhen is how many expressions one entry may have.
const maxWhen = 10

// when holds where a CEL expression is true. An error is as good as false.
type when struct{ *expression }

func (c when) unmet(f facts) *Miss {
	if f.wrongInputs && len(c.inputs) > 0 {
		return nil // nothing is given either way, and why is said without it
	}
	result, why := c.eval(f)
	if why == "" && result == types.True {
		return nil
	}
	miss := c.seen(f, why)
	return &miss
}

func (c when) told(f facts) Miss {
	_, why := c.eval(f)
	return c.seen(f, why)
}

func (c when) seen(f facts, fault string) Miss {
	return Miss{Claim: "when", When: c.text, Fault: fault, Saw: c.saw(f), Place: c.place}
}

// saw tells what the expression read, in words.
func (c when) saw(f facts) string {
	var words []string
	for _, name := range c.claims {
		text, present := f.Claims.Text(name)
		if !present {
			words = append(words, name+" is absent")
			continue
		}
		words = append(words, name+" is "+yamlfile.Quote(text))
	}
	for _, name := range c.inputs {
		words = append(words, inputWords("inputs."+name, f.inputs[name]))
	}
	return strings.Join(words, ", ")
}

func inputWords(name string, value any) string {
	if text, ok := value.(string); ok {
		return name + " is " + yamlfile.Quote(text)
	}
	return name + " is " + shown(decimal(value))
}

// when reads one expression or a list of them.
func (r *reader) when(n yamlfile.Node, kind string) []condition {
	if !n.Exists() {
		return nil
	}
	items := []yamlfile.Node{n}
	if n.IsList() {
		items = n.Items()
	}
	if len(items) == 0 || len(items) > maxWhen {
		r.refuse(n, "when is one expression, or a list of 1 to %d that must all hold", maxWhen)
	}
	var conditions []condition
	for _, item := range items {
		var text string
		if !r.decode(item, &text) {
			continue
		}
		if e := r.compile(source{node: item, text: text, kinds: []string{kind}}); e != nil {
			conditions = append(conditions, when{e})
		}
	}
	return conditions
}
