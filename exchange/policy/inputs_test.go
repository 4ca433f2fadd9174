package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

const releaseInputs = `version: {pattern: 'v[0-9]+(\.[0-9]+)*', example: v1.2.3, about: The tag to release.}
channel: {enum: [stable, beta], default: stable}
count: {type: number, min: 1, max: 20, default: 3}`

func TestInputsAreReadAsTheyAreWritten(t *testing.T) {
	got := setOf(t, taskOf("", releaseInputs, plainBlock)).Tasks()[0].Inputs
	want := []policy.Input{
		{Name: "version", About: "The tag to release.", Type: policy.TextInput, Pattern: `v[0-9]+(\.[0-9]+)*`, MaxLength: 200, Required: true, Example: "v1.2.3"},
		{Name: "channel", Type: policy.TextInput, Enum: []string{"stable", "beta"}, MaxLength: 200, Default: "stable", Example: "stable"},
		{Name: "count", Type: policy.NumberInput, Min: 1, Max: 20, Default: "3", Example: "3"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Input{})); diff != "" {
		t.Error(diff)
	}
}

func TestAnInputThatIsNotRightIsRefusedInWords(t *testing.T) {
	set := setOf(t, taskOf("", releaseInputs, plainBlock))
	with := func(name, value string) map[string]string {
		given := map[string]string{"version": "v1"}
		given[name] = value
		return given
	}
	const (
		noMatch = `the task's input version does not match "v[0-9]+(\\.[0-9]+)*", as "v1.2.3" does`
		aNumber = "the task's input count must be a whole number in decimal digits, from 1 to 20"
		visible = "the task's input version must be one line of visible characters"
	)
	for name, c := range map[string]struct {
		given map[string]string
		why   string
	}{
		"all right":              {map[string]string{"version": "v1.2", "channel": "beta", "count": "20"}, ""},
		"defaults":               {with("version", "v1"), ""},
		"none":                   {nil, "the task's input version is missing: The tag to release."},
		"misspelt":               {with("chanel", "beta"), `the task has no input "chanel" (did you mean "channel"?)`},
		"unknown":                {with("repository", "x"), `the task has no input "repository" (its inputs: "channel", "count", "version")`},
		"in capitals":            {with("Version", "v1"), `the task has no input "Version" (did you mean "version"?)`},
		"empty":                  {with("version", ""), "the task's input version is empty"},
		"more before":            {with("version", "xv1"), noMatch},
		"more after":             {with("version", "v1/../../x"), noMatch},
		"a second line":          {with("version", "v1\nv2"), visible},
		"a line end":             {with("version", "v1\n"), visible},
		"an escape":              {with("version", "v1\x1b[2J"), visible},
		"a NUL":                  {with("version", "v1\x00"), visible},
		"not UTF-8":              {with("version", "v1\xff"), visible},
		"turned round":           {with("version", "v1\u202e"), visible},
		"too long":               {with("version", "v"+strings.Repeat("1", 200)), "the task's input version has 201 characters; at most 200"},
		"not listed":             {with("channel", "nightly"), `the task's input channel must be "stable" or "beta"`},
		"nearly listed":          {with("channel", "betas"), `the task's input channel must be "stable" or "beta" (did you mean "beta"?)`},
		"two listed":             {with("channel", "stable,beta"), `the task's input channel must be "stable" or "beta"`},
		"too small":              {with("count", "0"), aNumber},
		"too large":              {with("count", "21"), aNumber},
		"no number":              {with("count", "three"), aNumber},
		"a number with a sign":   {with("count", "+3"), aNumber},
		"a number with a zero":   {with("count", "03"), aNumber},
		"a fraction":             {with("count", "3.0"), aNumber},
		"a number of many bytes": {with("count", strings.Repeat("9", 1000)), aNumber},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := set.Authorize(release(nil), policy.Asked{Task: "t", Inputs: c.given})
			var denial *policy.Denial
			switch errors.As(err, &denial); {
			case c.why == "" && err != nil:
				t.Error(err)
			case c.why != "" && (denial == nil || denial.Asked != c.why || grant != (policy.Grant{})):
				t.Errorf("got  %v\nwant %s", err, c.why)
			}
		})
	}
}

func TestATaskWithoutInputsTakesNone(t *testing.T) {
	_, err := good(t).Authorize(release(nil), policy.Asked{Task: "publish-release", Inputs: map[string]string{"version": "v1"}})
	var denial *policy.Denial
	if !errors.As(err, &denial) || denial.Asked != `the task has no input "version" (its inputs: none)` {
		t.Error(err)
	}
}

// Who is not let in learns nothing of the inputs, also where a condition reads them.
func TestWhoIsNotLetInIsNotToldTheInputs(t *testing.T) {
	set := setOf(t, taskOf(`claims.ref == "refs/tags/" + inputs.version && claims.ref_type == "tag"`, releaseInputs, plainBlock))
	for name, c := range map[string]struct {
		change identity.Claims
		given  map[string]string
		told   bool
	}{
		"a stranger, wrong input": {identity.Claims{"repository_id": "1"}, map[string]string{"version": "x"}, false},
		"a stranger, no input":    {identity.Claims{"repository_id": "1"}, nil, false},
		"pinned, wrong input":     {nil, map[string]string{"version": "x"}, true},
		"pinned, another tag":     {nil, map[string]string{"version": "v9"}, false},
	} {
		_, err := set.Authorize(release(c.change), policy.Asked{Task: "t", Inputs: c.given})
		var denial *policy.Denial
		if !errors.As(err, &denial) || (denial.Asked != "") != c.told {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANumberIsANumberToConditions(t *testing.T) {
	set := setOf(t, taskOf(`inputs.count * 2 <= 10 && inputs.channel == "stable"`, releaseInputs, plainBlock))
	for count, let := range map[string]bool{"": true, "5": true, "6": false} {
		given := map[string]string{"version": "v1"}
		if count != "" {
			given["count"] = count
		}
		_, err := set.Authorize(release(nil), policy.Asked{Task: "t", Inputs: given})
		if (err == nil) != let {
			t.Errorf("%s: %v", count, err)
		}
		if !let && !strings.Contains(err.Error(), `is false (inputs.count is 6, inputs.channel is "stable")`) {
			t.Error(err)
		}
	}
}
