package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// neverNames are the names that never has a reason for; a test holds them together.
var neverNames = []string{"actor", "actor_id", "aud", "exp", "iat", "iss", "jti", "nbf", "sub"}

// claimWords say what the claims are that issuers of a kind give. Source: as of
// givenClaims. Those that may not be matched have none.
var claimWords = map[string]map[string]string{
	"github": {
		"repository":            "The repository's owner and name. Names can be given to others; repository_id cannot.",
		"repository_id":         "The repository's number, in quotes. GET /repos/OWNER/NAME has it as id.",
		"repository_visibility": "internal, private or public.",
		"repository_owner":      "The owner's name. Names can be given to others; repository_owner_id cannot.",
		"repository_owner_id":   "The owner's number, in quotes. GET /repos/OWNER/NAME has it as owner.id.",
		"enterprise":            "The name of the enterprise that the repository belongs to.",
		"enterprise_id":         "The enterprise's number, in quotes.",
		"ref":                   "The branch or tag of the run, as refs/heads/main or refs/tags/v1.2.3.",
		"ref_type":              "branch or tag.",
		"ref_protected":         "\"true\" if the run's branch or tag has a protection rule or ruleset.",
		"sha":                   "The commit of the run.",
		"head_ref":              "The branch that a pull request comes from. Empty for other events.",
		"base_ref":              "The branch that a pull request goes to. Empty for other events.",
		"event_name":            "What the run began on, as push. List every event that may use the task.",
		"environment":           "The environment that the job names.",
		"environment_node_id":   "The environment's id in GitHub's GraphQL API.",
		"workflow":              "The workflow's name, which the workflow file chooses itself.",
		"workflow_ref":          "The workflow file of the run and the ref it is taken from.",
		"workflow_sha":          "The commit that the workflow file of the run is taken from.",
		"job_workflow_ref":      "The file that defines the job, which of a reusable workflow is that one, and its ref.",
		"job_workflow_sha":      "The commit of the file that defines the job.",
		"run_id":                "The run's number, in quotes.",
		"run_number":            "How many runs the workflow has had, in quotes.",
		"run_attempt":           "Which attempt of the run this is, in quotes.",
		"check_run_id":          "The job's check run, a number in quotes.",
		"runner_environment":    "github-hosted or self-hosted.",
	},
	"forgejo": wordsOf(forgejoClaims), "gitlab": wordsOf(gitLabClaims), "buildkite": wordsOf(buildkiteClaims),
	"circleci": wordsOf(circleCIClaims), "kubernetes": wordsOf(kubernetesClaims), "spiffe": wordsOf(spiffeClaims),
}

// claimsSchema knows the claims of every kind of issuer, and demands of them what holds
// for all: which kind an issuer is, only the configuration says. Claims of an issuer's own
// making are taken, too.
func claimsSchema() schema {
	names := schema{}
	for claim, by := range claimGivers() {
		pattern := claimText
		if isList(claim) {
			pattern = propertyText
		}
		one := backend.Described(wordsOfAll(claim, by), claimSchema(false, pattern))
		one["examples"] = examplesOfAll(claim, by)
		names[claim] = one
	}
	return backend.Described("Claims that must all hold, matched exactly. A list means any of its values.", schema{
		"type":                 "object",
		"minProperties":        1,
		"properties":           names,
		"patternProperties":    schema{"^" + listPrefix: backend.Described("A custom property of the repository.", claimSchema(false, propertyText))},
		"additionalProperties": claimSchema(false, claimText),
		"propertyNames":        schema{"pattern": backend.Pattern(claimName), "not": schema{"enum": forbiddenOf("oidc")}},
	})
}

// claimGivers are the claims that may be matched, each with the kinds that give it.
func claimGivers() map[string][]string {
	all := map[string][]string{}
	for _, kind := range kindNames() {
		for claim := range givenClaims[kind] {
			if forbidden(kind, claim) == "" {
				all[claim] = append(all[claim], kind)
			}
		}
	}
	return all
}

// wordsOfAll says what a claim is, of each kind by itself where they differ.
func wordsOfAll(claim string, kinds []string) string {
	same := true
	var each []string
	for _, kind := range kinds {
		same = same && claimWords[kind][claim] == claimWords[kinds[0]][claim]
		each = append(each, kind+": "+claimWords[kind][claim])
	}
	if same {
		return claimWords[kinds[0]][claim]
	}
	return strings.Join(each, " ")
}

func examplesOfAll(claim string, kinds []string) (all []string) {
	for _, kind := range kinds {
		if example := givenClaims[kind][claim]; !slices.Contains(all, example) {
			all = append(all, example)
		}
	}
	return all
}

// entryRules demand what a kind demands, where the issuer has the name of that kind: the
// configuration lets no issuer of another have it.
func entryRules() (each []any) {
	for _, kind := range kindNames() {
		row := kinds()[kind]
		if len(row.pins) == 0 {
			continue
		}
		forms := schema{}
		for _, claim := range row.numbers {
			forms[claim] = claimSchema(true, "")
		}
		for _, claim := range row.uuids {
			forms[claim] = claimSchema(false, backend.Pattern(uuidText))
		}
		var pins []schema
		for _, pin := range row.pins {
			pins = append(pins, schema{"required": []string{pin}})
		}
		claims := schema{"properties": forms, "anyOf": pins}
		if len(row.required) > 0 {
			claims["required"] = row.required
		}
		if never := forbiddenOf(kind); len(never) > 0 {
			claims["propertyNames"] = schema{"not": schema{"enum": never}}
		}
		each = append(each, schema{
			"if":   schema{"required": []string{"issuer"}, "properties": schema{"issuer": schema{"const": kind}}},
			"then": schema{"properties": schema{"claims": claims}},
		})
	}
	return each
}

// forbiddenOf are the claims that may not be matched of a kind.
func forbiddenOf(kind string) (all []string) {
	for _, claim := range slices.Concat(neverNames, kinds()[kind].people) {
		if forbidden(kind, claim) != "" {
			all = append(all, claim)
		}
	}
	return all
}

// A claim's value has no spaces around it and no *, and one of a property no comma.
const (
	claimText    = `^[^\s\x00-\x1f\x7f*]([^\x00-\x1f\x7f*]*[^\s\x00-\x1f\x7f*])?$`
	propertyText = `^[^\s\x00-\x1f\x7f*,]([^\x00-\x1f\x7f*,]*[^\s\x00-\x1f\x7f*,])?$`
	idText       = `^[1-9][0-9]{0,18}$`
)

func claimSchema(id bool, pattern string) schema {
	one := schema{"type": "string", "pattern": pattern, "not": schema{"pattern": `\$\{`}}
	if id {
		one = schema{"type": "string", "pattern": idText}
	}
	return oneOrMore(one, schema{"uniqueItems": true})
}

func inputsSchema() schema {
	return backend.Described("What whoever asks gives beside the task's name, by name. Each has a closed form.", schema{
		"type":                 "object",
		"minProperties":        1,
		"maxProperties":        maxInputs,
		"propertyNames":        schema{"pattern": backend.Pattern(inputName)},
		"additionalProperties": inputSchema(),
	})
}

// inputSchema tells the two types apart, which have keys of their own.
func inputSchema() schema {
	s := backend.SchemaOf[inputBlock](inputKey)
	s["if"] = schema{"required": []string{"type"}, "properties": schema{"type": schema{"const": NumberInput}}}
	whole := schema{"type": "integer"}
	s["then"] = schema{
		"required":   []string{"min", "max"},
		"properties": schema{"enum": false, "pattern": false, "max_length": false, "default": whole, "example": whole},
	}
	value := schema{"type": "string", "minLength": 1, "maxLength": mostInputLength}
	s["else"] = schema{
		"properties": schema{"min": false, "max": false, "default": value, "example": value},
		"oneOf":      []any{schema{"required": []string{"enum"}}, schema{"required": []string{"pattern"}}},
		"dependentSchemas": schema{
			"max_length": schema{"required": []string{"pattern"}},
			"pattern":    schema{"anyOf": []any{schema{"required": []string{"example"}}, schema{"required": []string{"default"}}}},
		},
	}
	return s
}

func inputKey(key string) any {
	switch key {
	case "about":
		return backend.Described("One line for people.", schema{"type": "string", "minLength": 1, "maxLength": maxPurpose})
	case "type":
		return backend.Described("What its values are. text if left out.", wordOf(map[string]string{
			string(TextInput): "Text, from a list or of a pattern.", string(NumberInput): "A whole number, from min to max.",
		}))
	case "enum":
		return backend.Described("The values that a text can have.", schema{"type": "array", "minItems": 1, "uniqueItems": true, "items": schema{"type": "string", "minLength": 1, "maxLength": maxInputLength}})
	case "pattern":
		return backend.Described("A regular expression (RE2) that all of a text matches. It needs an example, or a default.",
			schema{"type": "string", "minLength": 1, "maxLength": maxPatternLength})
	case "max_length":
		return backend.Described(fmt.Sprintf("The most characters of a text with a pattern. %d if left out.", maxInputLength),
			schema{"type": "integer", "minimum": 1, "maximum": mostInputLength})
	case "min", "max":
		return backend.Described("The "+map[string]string{"min": "least", "max": "greatest"}[key]+" value of a number, itself included.", schema{"type": "integer"})
	case "default":
		return backend.Described("The value if none is given. Without it the input is required.", schema{"type": []string{"string", "integer"}})
	case "example":
		return backend.Described("A value that is right; the task file is checked with it.", schema{"type": []string{"string", "integer"}})
	}
	return nil
}
