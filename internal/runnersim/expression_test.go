package runnersim

import (
	"strings"
	"testing"
)

var someContexts = contexts{
	"github":  map[string]any{"ref": "refs/tags/v1", "event": map[string]any{"number": 7.0, "forced": true, "nothing": nil}},
	"env":     map[string]any{"Mixed_Case": "x"},
	"steps":   map[string]any{"key": map[string]any{"outputs": map[string]any{"token": "t0k", "expires-at": "soon"}}},
	"vars":    map[string]any{"EMPTY": ""},
	"secrets": map[string]any{},
}

func TestExpressionsAreEvaluatedAsGitHubEvaluatesThem(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                 "plain",
		"a ${{ github.ref }} b": "a refs/tags/v1 b",
		"${{ steps.key.outputs.token }}${{ 'x' }}":   "t0kx",
		"${{ steps.key.outputs['expires-at'] }}":     "soon",
		"${{ steps.key.outputs.expires-at }}":        "soon",
		"${{ STEPS.KEY.OUTPUTS.TOKEN }}":             "t0k",
		"${{ env.mixed_case }}":                      "x",
		"${{ github.event.number }}":                 "7",
		"${{ github.event.forced }}":                 "true",
		"${{ github.nowhere.at.all }}":               "",
		"${{ vars.EMPTY || 'fallback' }}":            "fallback",
		"${{ github.ref && 'yes' || 'no' }}":         "yes",
		"${{ !vars.EMPTY }}":                         "true",
		"${{ github.ref == 'REFS/TAGS/V1' }}":        "true",
		"${{ github.ref != 'x' }}":                   "true",
		"${{ github.nowhere == '' }}":                "true",
		"${{ startsWith(github.ref, 'refs/TAGS') }}": "true",
		"${{ endsWith(github.ref, 'v2') }}":          "false",
		"${{ contains(github.ref, 'tags') }}":        "true",
		"${{ '}}' }}":                                "}}",
		"${{ 'it''s' }}":                             "it's",
		"echo $((1 << 2)) }} {{ $x":                  "echo $((1 << 2)) }} {{ $x",
	} {
		got, err := someContexts.interpolate(text)
		if err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestWhatIsNotUnderstoodIsAnErrorThatSaysSo(t *testing.T) {
	for text, want := range map[string]string{
		"${{ matrix.os }}":                   `the context "matrix" is not supported`,
		"${{ hashFiles('x') }}":              "the function hashFiles() is not supported",
		"${{ toJSON(github) }}":              "the function toJSON() is not supported",
		"${{ steps.*.outputs }}":             "is not supported",
		"${{ steps.key.outputs }}":           "an object has no text",
		"${{ github.event.number < 8 }}":     "the operator < is not supported",
		"${{ github.event.number == '7' }}":  "comparing values of unlike types",
		"${{ success() }}":                   "success() stands alone in an if:",
		"${{ github.ref":                     "reading the expression",
		"${{ }}":                             "reading the expression",
		"${{ github.ref github.ref }}":       "reading the expression",
		"${{ startsWith('a') }}":             "takes two arguments",
		"${{ github[github.event.number] }}": "an index that is no string",
	} {
		if got, err := someContexts.interpolate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %q, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestConditionsMeanSuccessUnlessTheySayOtherwise(t *testing.T) {
	good, failed, cancelled, both := status{}, status{failed: true}, status{cancelled: true}, status{failed: true, cancelled: true}
	for condition, want := range map[string][4]bool{
		"":                          {true, false, false, false},
		"always()":                  {true, true, true, true},
		"${{ always() }}":           {true, true, true, true},
		"success()":                 {true, false, false, false},
		"failure()":                 {false, true, false, false},
		"cancelled()":               {false, false, true, true},
		"!cancelled()":              {true, true, false, false},
		"success() || failure()":    {true, true, false, false},
		"github.ref":                {true, false, false, false},
		"github.ref == 'x'":         {false, false, false, false},
		"always() && vars.EMPTY":    {false, false, false, false},
		"failure() && github.ref":   {false, true, false, false},
		"${{ github.ref == 'x' }}":  {false, false, false, false},
		"contains('always()', 'a')": {true, false, false, false},
	} {
		for i, s := range []status{good, failed, cancelled, both} {
			if got, err := someContexts.holds(condition, s); err != nil || got != want[i] {
				t.Errorf("if: %s with %+v is %v, %v; want %v", condition, s, got, err, want[i])
			}
		}
	}
}

func FuzzExpressions(f *testing.F) {
	for _, text := range []string{"${{ github.ref }}", "${{ a || b && !c }}", "${{ startsWith(a,'b') == true }}", "${{ x['y'].z", "${{ 0x1F != -1.5e3 }}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := someContexts.interpolate(text)
		if err == nil && !strings.Contains(text, "${{") && got != text {
			t.Errorf("text without an expression %q became %q", text, got)
		}
	})
}
