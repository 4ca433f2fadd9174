package identity

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestObjectsAtTheLimitsAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                       `{}`,
		"nested 20 deep":              strings.Repeat(`{"a":`, 19) + `[]` + strings.Repeat(`}`, 19),
		"1000 values":                 `{"a":[` + strings.Repeat("0,", 997) + `0]}`,
		"space around":                " \t\r\n{} \n",
		"one name in several objects": `{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}`,
		"names of look-alikes":        `{"a":1,"а":2}`,
		"an escaped pair":             `{"a":"\ud83d\ude00"}`,
	} {
		if _, err := decodeObject([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestObjectsBeyondTheLimitsAreNot(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            ``,
		"nested 21 deep":     strings.Repeat(`{"a":`, 20) + `[]` + strings.Repeat(`}`, 20),
		"nested far deeper":  `{"a":` + strings.Repeat(`[`, 100000) + strings.Repeat(`]`, 100000) + `}`,
		"1001 values":        `{"a":[` + strings.Repeat("0,", 998) + `0]}`,
		"a colon missing":    `{"a" 1}`,
		"a comma missing":    `{"a":1 "b":2}`,
		"a comma for colon":  `{"a",1}`,
		"a name of a number": `{1:1}`,
		"single quotes":      `{'a':1}`,
		"a comment":          `{/**/}`,
		"NaN":                `{"a":NaN}`,
		"a raw line break":   "{\"a\":\"\n\"}",
		"the Kelvin sign":    `{"k":1,"K":2}`,
		"three sigmas":       `{"σ":1,"ς":2}`,
		"U+FFFD itself":      `{"a":"�"}`,
	} {
		if object, err := decodeObject([]byte(text)); err == nil {
			t.Errorf("%s was read as %v", name, object)
		}
	}
}

func TestValuesKeepTheirTypes(t *testing.T) {
	got, err := decodeObject([]byte(`{"s":"x","n":9007199254740993,"t":true,"z":null,"l":[1,"a"],"o":{"a":{}}}`))
	want := map[string]any{
		"s": "x", "n": json.Number("9007199254740993"), "t": true, "z": nil,
		"l": []any{json.Number("1"), "a"}, "o": map[string]any{"a": map[string]any{}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestNamesFoldTogetherExactlyIfTheyAreEqualFolded(t *testing.T) {
	letters := rapid.StringOf(rapid.RuneFrom([]rune("kKKsSſσςΣåÅÅßẞiİıI_ab")))
	rapid.Check(t, func(t *rapid.T) {
		a, b := letters.Draw(t, "a"), letters.Draw(t, "b")
		if (fold(a) == fold(b)) != strings.EqualFold(a, b) {
			t.Fatalf("%q and %q: folded %q and %q, EqualFold says %t", a, b, fold(a), fold(b), strings.EqualFold(a, b))
		}
	})
}

// FuzzClaims: what is read is read as encoding/json reads it, and has one reading.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"A":2}`, `{"a":"\ud800"}`, `{"exp":1e400,"x":[[[]]]}`, `{"repoſitory_id":"1","repository_id":"2"}`,
		`[]`, `null`, `{"a":1}{"b":2}`, "{\"a\":\"\xff\"}", `{"n":-0.0,"m":12345678901234567890}`, strings.Repeat("[", 30),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeObject(data)
		if err != nil {
			if len(err.Error()) > 100 {
				t.Fatalf("an error shows its input: %v", err)
			}
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("read what encoding/json refuses: %v", err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read %#v, encoding/json reads %#v", got, want)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeObject(again); err != nil || !reflect.DeepEqual(got, second) {
			t.Fatalf("written again it reads %#v, %v", second, err)
		}
	})
}
