package exec_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/exec"
)

const forWords = "tokens: {about: a key of the reports service, command: [/bin/true], parameters: {" + forms + "}}, plain: {command: [/bin/true], revoke: false}"

// blank is a backend that reads blocks, as the checking of task files has it; without
// programs it knows no configuration.
func blank(t testing.TB, programs string) *exec.Backend {
	t.Helper()
	if programs == "" {
		return exec.New(exec.Options{})
	}
	o, err := configured(t, programs).Options()
	if err != nil {
		t.Fatal(err)
	}
	return exec.New(o)
}

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	for block, want := range map[string]string{
		`{program: tokens, parameters: {area: figures, can: [write, read]}}`:               `program tokens (a key of the reports service): area "figures", can "read" and "write"`,
		`{program: tokens, parameters: {can: [burn], area: a, note: "It's \"me\", ${x}"}}`: `program tokens (a key of the reports service): area "a", can "burn", note "It's \"me\", ${x}"`,
		`{program: plain}`:                 `program plain; it cannot be revoked and expires by itself`,
		`{program: plain, parameters: {}}`: `program plain; it cannot be revoked and expires by itself`,
	} {
		scope, err := blank(t, forWords).Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return blank(t, forWords).Scope(node(t, block)) }, []backendtest.Bad{
		{`[tokens]`, "2:9", "want which program"},
		{`{parameters: {}}`, "2:9", `missing: "program"`},
		{`{program: token}`, "2:19", `did you mean "tokens"?`},
		{`{program: zzz}`, "2:19", "there is: plain, tokens"},
		{`{program: ../tokens}`, "2:19", "want a name"},
		{`{program: tokens}`, "2:9", "wants the parameter area"},
		{`{program: tokens, parameters: {area: a}}`, "2:39", "wants the parameter can"},
		{`{program: tokens, parameters: {area: a, cans: [read]}}`, "2:49", `did you mean "can"?`},
		{`{program: tokens, parameters: {area: a, zzzzzz: [read], can: [read]}}`, "2:49", "it has: area, can, note"},
		{`{program: tokens, parameters: {area: a, can: [fly]}}`, "2:55", "it is none of: read, write, burn"},
		{`{program: tokens, parameters: {area: A, can: [read]}}`, "2:46", "does not match the parameter's pattern"},
		{`{program: tokens, parameters: {area: abcdefghijklmnopqrstu, can: [read]}}`, "2:46", "it has 21 bytes, and 20 is the most"},
		{`{program: tokens, parameters: {area: "", can: [read]}}`, "2:46", "it is empty"},
		{`{program: tokens, parameters: {area: a, can: [read], note: "a\tb"}}`, "2:68", "cannot be seen"},
		{`{program: tokens, parameters: {area: a, can: [` + strings.Repeat("read, ", 16) + `read]}}`, "2:151", "17 are named here; 16 is the most"},
	})
}

// Task files are also checked where no configuration is: then what some program could
// take is taken, and what none could is not.
func TestWithoutAConfigurationWhatSomeProgramCouldTakeIsTaken(t *testing.T) {
	for block, taken := range map[string]bool{
		`{program: anything, parameters: {area: Figures, can: [x, y]}}`: true,
		`{program: anything}`:                                                        true,
		`{program: Anything}`:                                                        false,
		`{program: anything, parameters: {Area: a}}`:                                 false,
		`{program: anything, parameters: {area: "a\nb"}}`:                            false,
		`{program: anything, parameters: {area: []}}`:                                false,
		`{program: anything, parameters: {area: {a: b}}}`:                            false,
		`{program: anything, parameters: {area: ` + strings.Repeat("a", 1025) + `}}`: false,
		`{program: anything, parameters: {area: ` + strings.Repeat("aß", 300) + `}}`: true,
	} {
		if _, err := blank(t, "").Scope(node(t, block)); (err == nil) != taken {
			t.Errorf("%.80s: %v", block, err)
		}
	}
}

func TestWhatALeftOutParameterMeansNobodyGuesses(t *testing.T) {
	b := blank(t, forWords)
	read := func(block string) backend.Scope {
		scope, err := b.Scope(node(t, block))
		if err != nil {
			t.Fatal(err)
		}
		return scope
	}
	without, with := read(`{program: tokens, parameters: {area: a, can: [read]}}`), read(`{program: tokens, parameters: {area: a, can: [read], note: b}}`)
	other := read(`{program: tokens, parameters: {area: b, can: [read]}}`)
	for _, pair := range [][2]backend.Scope{{without, with}, {with, without}, {without, other}, {without, read(`{program: plain}`)}} {
		if pair[0].Covers(pair[1]) {
			t.Errorf("%s covers %s", pair[0], pair[1])
		}
	}
}

func TestCoversIsAnOrder(t *testing.T) {
	b := blank(t, "one: {command: [/bin/true], parameters: {x: {enum: [a, b], optional: true}, y: {enum: [a, b, c], list: true, optional: true}}}, two: {command: [/bin/true], parameters: {x: {enum: [a, b], optional: true}}}")
	scope := func(r *rapid.T, label string) backend.Scope {
		program := rapid.SampledFrom([]string{"one", "one", "one", "two"}).Draw(r, label)
		var given []string
		if rapid.Bool().Draw(r, label+" x") {
			given = append(given, "x: "+rapid.SampledFrom([]string{"a", "b"}).Draw(r, label+" x is"))
		}
		if program == "one" && rapid.Bool().Draw(r, label+" y") {
			all := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string]).Draw(r, label+" y is")
			given = append(given, "y: ["+strings.Join(all, ", ")+"]")
		}
		read, err := b.Scope(node(t, fmt.Sprintf("{program: %s, parameters: {%s}}", program, strings.Join(given, ", "))))
		if err != nil {
			r.Fatal(err)
		}
		return read
	}
	backendtest.CoversIsAnOrder(t, scope, backend.Scope.String)
}

func TestTheSchemaHasWordsForEveryKeyOfTheBlock(t *testing.T) {
	backendtest.SchemaHasWords(t, blank(t, ""), 2)
}

func FuzzBlocks(f *testing.F) {
	backendtest.FuzzBlocks(f, blank(f, forWords), blank(f, ""), "", append(slices.Collect(maps.Values(hostile)), good, narrower, wider)...)
}

func FuzzAnswers(f *testing.F) {
	for _, answer := range []string{
		`{"values":{"token":"a"},"env":{"T":"token"},"handle":"h","granted":{"can":["read"]},"dies_at":"2026-11-23T15:10:00Z"}`,
		`{"error":{"message":"m","not_created":true}}`, `{"gone":true}`, `{"a":[{"b":{}},[]]}`, "{\"values\":{\"token\":\"\xff\"}}",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := exec.ReadAnswer(text)
		if err == nil && exec.ReadAnswer(append(slices.Clone(text), text...)) == nil {
			t.Fatal("two answers are taken for one")
		}
	})
}

func TestBytesThatAreNoTextAreNoAnswer(t *testing.T) {
	if exec.ReadAnswer([]byte("{\"values\":{\"token\":\"\xff\"}}")) == nil {
		t.Error("a secret with other bytes than were written would be handed out")
	}
}
