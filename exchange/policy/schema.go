package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Described is a Scoper that can say as a JSON Schema (draft 2020-12) which blocks it
// takes. The schema must refuse nothing that Scope takes, also not a text that holds
// ${…}; what it cannot see it leaves to Scope.
type Described interface {
	BlockSchema() map[string]any
}

type schema = map[string]any

// Schema returns a JSON Schema (draft 2020-12) of task files, for editors, as indented
// JSON that is the same each time. It is made of what the reader itself goes by, and
// refuses nothing that Load takes. What a schema cannot see stays to Load: how the YAML
// is written, what the configuration has, expressions, and most of what hangs together
// across keys.
func Schema(backends map[string]Scoper) ([]byte, error) {
	root := backend.SchemaOf[taskFile](func(key string) any { return taskKey(key, backends) })
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "A task file of stepkey"
	root["description"] = "One defined piece of work: who may do it, and which credential it gets."
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(root); err != nil {
		return nil, fmt.Errorf("writing the schema: %w", err)
	}
	return text.Bytes(), nil
}

func taskKey(key string, backends map[string]Scoper) any {
	switch key {
	case "task":
		return backend.Described("The task's name, which is also the file's: 1 to 63 of a-z, 0-9 and -.", backend.Matching(taskName))
	case "purpose":
		return backend.Described("One line that says what the task is for.", line(maxPurpose))
	case "inputs":
		return inputsSchema()
	case "allow":
		entry := backend.SchemaOf[entryBlock](entryKey)
		entry["allOf"] = entryRules()
		return backend.Described("Who may have the task: one of these entries must hold as a whole.",
			schema{"type": "array", "minItems": 1, "items": entry})
	case "credential":
		return credentialSchema(backends)
	case "limits":
		return backend.Described("How long the credential lives, and how often a job may have it.", backend.SchemaOf[limitsBlock](limitKey))
	case "require":
		return backend.Described("What the exchange asks the CI system at each request.",
			schema{"type": "array", "minItems": 1, "uniqueItems": true, "items": wordOf(requiredWords)})
	case "bind":
		return backend.Described("What the ID token must be bound to.", wordOf(bindWords))
	case "accept":
		return acceptSchema()
	}
	return nil
}

// requiredWords, bindWords and untilWords say what each word of theirs means.
var (
	requiredWords = map[string]string{
		protectedEnvironment: "The environment that the job names has a protection rule. Every entry of allow must name one.",
		pinnedWorkflow:       "Nothing is loose in the job's workflow files: all that they use is pinned by digest, and no cache is restored.",
	}
	bindWords = map[string]string{
		string(BindRequest): "To the exact request and the key that makes it, by its audience. A token for the exchange's plain audience is refused.",
	}
	untilWords = map[string]string{
		string(UntilJob):      "The end of the job ends it. So it is if the key is left out.",
		string(UntilStep):     "The end of the step that asked and of the next one ends it.",
		string(UntilThisStep): "The end of the step that asked ends it.",
	}
)

// wordOf is any of some words, each with its meaning, which an editor shows beside it.
func wordOf(words map[string]string) schema {
	var each []any
	for _, word := range slices.Sorted(maps.Keys(words)) {
		each = append(each, schema{"const": word, "description": words[word]})
	}
	return schema{"type": "string", "oneOf": each}
}

func entryKey(key string) any {
	switch key {
	case "issuer":
		return backend.Described("An issuer's name, as the configuration has it.", schema{"type": "string"})
	case "claims":
		return claimsSchema()
	case "when":
		condition := schema{"type": "string", "pattern": `\S`, "maxLength": maxExpression}
		return backend.Described("Conditions in CEL that must hold on top of the claims: one, or a list. They read claims and inputs.",
			oneOrMore(condition, schema{"maxItems": maxWhen}))
	}
	return nil
}

// oneOrMore is a value by itself or a list of such values.
func oneOrMore(one, list schema) schema {
	list["type"], list["minItems"], list["items"] = "array", 1, one
	return schema{"anyOf": []any{one, list}}
}

func limitKey(key string) any {
	switch key {
	case "ttl":
		return backend.Described(fmt.Sprintf("The longest that the credential lives, from %s to %s, such as 10m.", span(minTTL), span(maxTTL)), ttlSchema())
	case "per_job":
		return backend.Described("How many of them one job may hold at the same time. 1 if left out.", schema{"type": "integer", "minimum": 1, "maximum": maxPerJob})
	case "until":
		return backend.Described("Whose end ends the credential, if nobody gives it back before.", wordOf(untilWords))
	case "uses":
		return false // the reader knows the key to say why it is refused
	}
	return nil
}

// ttlSchema takes durations as Go spells them; of those in one unit also how long they
// are. A sum of several is the reader's to judge.
func ttlSchema() schema {
	var wrong []string
	for unit, in := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour} {
		wrong = append(wrong, `(0*|0*`+moreThan(int64(maxTTL/in))+`)`+unit)
	}
	slices.Sort(wrong)
	return schema{
		"type":     "string",
		"pattern":  `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`,
		"not":      schema{"pattern": `^\+?(` + strings.Join(wrong, "|") + `)$`},
		"examples": []string{"90s", "10m", "1h"},
	}
}

// moreThan matches the decimal numbers above a number, without leading zeros.
func moreThan(number int64) string {
	digits := fmt.Sprint(number)
	longer := fmt.Sprintf(`[1-9][0-9]{%d,}`, len(digits))
	all := []string{longer}
	for i, digit := range digits {
		if digit < '9' {
			all = append(all, fmt.Sprintf(`%s[%c-9][0-9]{%d}`, digits[:i], digit+1, len(digits)-i-1))
		}
	}
	return `(` + strings.Join(all, "|") + `)`
}

func acceptSchema() schema {
	rules := schema{}
	for _, rule := range Rules() {
		if rule.Acceptable() {
			rules[rule.ID] = backend.Described(strings.ToUpper(rule.Title[:1])+rule.Title[1:]+". "+rule.Why, line(0))
		}
	}
	return backend.Described("Findings that are meant, by the rule's name, each with the reason in one line.",
		schema{"type": "object", "minProperties": 1, "properties": rules, "additionalProperties": false})
}

func credentialSchema(backends map[string]Scoper) schema {
	blocks := schema{}
	for name, scoper := range backends {
		blocks[name] = backend.Described("What the backend "+name+" takes.", schema{})
		if able, can := scoper.(Described); can {
			blocks[name] = able.BlockSchema()
		}
	}
	return backend.Described("The one backend that makes the credential, and what the credential can do. Texts in it may hold expressions, as ${claims.ref} or ${inputs.version}.",
		schema{"type": "object", "minProperties": 1, "maxProperties": 1, "properties": blocks, "additionalProperties": false})
}

// line is one line of text that says something; of no more characters than most, unless
// that is 0.
func line(most int) schema {
	s := schema{"type": "string", "pattern": `^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`}
	if most > 0 {
		s["maxLength"] = most
	}
	return s
}
