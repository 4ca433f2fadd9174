package yamlfile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestJSONThatTwoReadersCouldReadInTwoWaysIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                      "0:0 this is not one complete JSON value",
		`{`:                     "0:0 this is not one complete JSON value",
		`{} x`:                  "0:0 this is not one complete JSON value",
		`{"a":1,}`:              "0:0 this is not one complete JSON value",
		"{\"a\":\"\t\"}":        "0:0 this is not one complete JSON value",
		"\"\xff\"":              "0:0 the JSON is not valid UTF-8",
		"{\"a\":1,\n \"a\":2}":  "2:2 an object holds one name twice",
		`{"a":1,"\u0061":2}`:    "1:8 an object holds one name twice",
		`[{"b":{"c":1,"c":1}}]`: "1:14 an object holds one name twice",
		`["\ud800"]`:            "1:2 a string holds a broken Unicode escape",
		`{"\udfff":1}`:          "1:2 a string holds a broken Unicode escape",
		strings.Repeat("[", 30) + strings.Repeat("]", 30): "1:22 nested more than 20 deep",
		"[" + strings.Repeat("1,", 1000) + "1]":           "1:2000 the JSON holds more than 1000 values",
		`"` + strings.Repeat("x", 300<<10) + `"`:          "0:0 the JSON has 307202 bytes; at most 262144 are read",
	} {
		n, err := yamlfile.ParseJSON("asked", []byte(text))
		if got := strings.Join(faults(err), "; "); got != want || n.Exists() {
			t.Errorf("%.40q: got %s, want %s", text, got, want)
		}
	}
}

func TestJSONIsDecodedAsStrictlyAsAFile(t *testing.T) {
	n, err := yamlfile.ParseJSON("asked", []byte(`{"text": "a\/b\u00e9", "whole": 5, "list": [true], "fraction": 1.0, "none": null}`))
	if err != nil {
		t.Fatal(err)
	}
	var text string
	var whole int
	var list []bool
	if n.Get("text").Decode(&text) != nil || n.Get("whole").Decode(&whole) != nil || n.Get("list").Decode(&list) != nil || text != "a/bé" || whole != 5 || !list[0] {
		t.Errorf("got %q, %d, %v", text, whole, list)
	}
	if n.Get("whole").Decode(&text) == nil || n.Get("fraction").Decode(&whole) == nil || n.Get("none").Decode(&text) == nil || n.Get("text").Decode(&whole) == nil {
		t.Error("a value was taken for one of another type")
	}
}

// FuzzJSON: whatever is sent, there is no panic, and what is read is what encoding/json
// reads, to the last value.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`[{"type":"stepkey_task","ttl":"5m","inputs":{"a":"b"},"credential":{"github":{"repositories":["x"]}}}]`, `{"a":1,"a":2}`, "[\n1.5e3 ,\tnull]", `"\ud83d\ude00"`, `{`, `[[[[]]]]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := yamlfile.ParseJSON("asked", data)
		if err != nil {
			if len(yamlfile.Faults(err)) != 1 || n.Exists() {
				t.Errorf("got %v", err)
			}
			return
		}
		var want any
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("read what encoding/json does not: %v", err)
		}
		same(t, n, want)
	})
}

func same(t *testing.T, n yamlfile.Node, want any) {
	switch want := want.(type) {
	case map[string]any:
		if len(n.Keys()) != len(want) || !n.IsMapping() {
			t.Fatalf("keys %v, want %v", n.Keys(), want)
		}
		for key, value := range want {
			same(t, n.Get(key), value)
		}
	case []any:
		if len(n.Items()) != len(want) || !n.IsList() {
			t.Fatalf("%d items, want %d", len(n.Items()), len(want))
		}
		for i, value := range want {
			same(t, n.Items()[i], value)
		}
	case string:
		var text string
		if err := n.Decode(&text); err != nil || text != want {
			t.Fatalf("got %q, %v; want %q", text, err, want)
		}
	}
	if n.Line() < 1 || n.Column() < 1 {
		t.Fatalf("a value is in no place: %d:%d", n.Line(), n.Column())
	}
}
