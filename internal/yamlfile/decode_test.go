package yamlfile_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// settings has every type that Decode knows, in the shape of a configuration.
type settings struct {
	Listen  string            `yaml:"listen,required"`
	Debug   bool              `yaml:"debug"`
	Workers int               `yaml:"workers"`
	Grace   time.Duration     `yaml:"grace"`
	Owners  []string          `yaml:"owners"`
	Labels  map[string]string `yaml:"labels"`
	Issuers map[string]issuer `yaml:"issuers"`
	Level   slog.Level        `yaml:"level"`
	Proxy   *bool             `yaml:"proxy"`
	Small   int8              `yaml:"small"`
	Raw     yamlfile.Node     `yaml:"raw"`
	Ours    string
}

type issuer struct {
	URL    string        `yaml:"url,required"`
	MaxAge time.Duration `yaml:"max_age"`
}

func TestAConfigurationIsReadIntoItsTypes(t *testing.T) {
	n := parse(t, `
listen: ":8080"
debug: true
workers: -3
grace: 1m30s
owners: ["123", acme]
labels: {team: build, "no": "true"}
level: warn
proxy: false
raw: {anything: [goes]}
issuers:
  github:
    url: https://issuer.example
    max_age: 60s
  ghes: {url: 'https://ghes.example/_services/token'}
`)
	got := settings{Ours: "kept", Small: 7}
	if err := n.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if keys := got.Raw.Keys(); len(keys) != 1 || keys[0] != "anything" || got.Raw.Line() != 10 {
		t.Errorf("raw has keys %v at line %d", keys, got.Raw.Line())
	}
	no := false
	want := settings{
		Listen: ":8080", Debug: true, Workers: -3, Grace: 90 * time.Second,
		Owners: []string{"123", "acme"}, Labels: map[string]string{"team": "build", "no": "true"},
		Issuers: map[string]issuer{
			"github": {"https://issuer.example", time.Minute},
			"ghes":   {"https://ghes.example/_services/token", 0},
		},
		Level: slog.LevelWarn, Proxy: &no, Small: 7, Ours: "kept",
	}
	got.Raw = yamlfile.Node{}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b yamlfile.Node) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestAValueOfAnotherTypeIsRefusedAndNeverTurnedIntoOne(t *testing.T) {
	for text, want := range map[string]string{
		"listen: 8080":                  `1:9 want text, found the number 8080; write it in quotes: "8080"`,
		"listen: 010":                   `1:9 want text, found the number 010; write it in quotes: "010"`,
		"listen: 0x1F":                  `1:9 want text, found the number 0x1F; write it in quotes: "0x1F"`,
		"listen: 1.50":                  `1:9 want text, found the number 1.50; write it in quotes: "1.50"`,
		"listen: .inf":                  `1:9 want text, found the number .inf; write it in quotes: ".inf"`,
		"listen: true":                  `1:9 want text, found the boolean true; write it in quotes: "true"`,
		"listen: No":                    `1:9 No without quotes is not text to every YAML reader; write it in quotes: "No"`,
		"listen: on":                    `1:9 on without quotes is not text to every YAML reader; write it in quotes: "on"`,
		"listen: 12e5":                  `1:9 12e5 without quotes is not text to every YAML reader; write it in quotes: "12e5"`,
		"listen: 36893488147419103232":  `1:9 36893488147419103232 without quotes is not text to every YAML reader; write it in quotes: "36893488147419103232"`,
		"listen:":                       "1:1 no value is given; write one or remove the key",
		"listen: ~":                     "1:1 no value is given; write one or remove the key",
		"listen: [a]":                   "1:9 want text, found a list",
		"listen: {a: b}":                "1:9 want text, found a mapping",
		"debug: \"true\"":               `1:8 want true or false, found the text "true"`,
		"debug: yes":                    `1:8 want true or false, found the text "yes"`,
		"debug: 1":                      "1:8 want true or false, found the number 1",
		"workers: \"3\"":                `1:10 want a whole number, found the text "3"`,
		"workers: 3.0":                  "1:10 want a whole number, found the number 3.0",
		"workers: 0o17":                 `1:10 want a whole number in decimal digits, found "0o17"`,
		"workers: 1_000":                `1:10 want a whole number in decimal digits, found "1_000"`,
		"workers: +3":                   `1:10 want a whole number in decimal digits, found "+3"`,
		"small: 128":                    `1:8 want a whole number in decimal digits, found "128"`,
		"grace: 90":                     "1:8 want a duration with its unit, as 10m or 90s, found the number 90",
		"grace: soon":                   `1:8 want a duration with its unit, as 10m or 90s, found "soon"`,
		"owners: acme":                  `1:9 want a list, found the text "acme"`,
		"owners: [acme, 7]":             `1:16 want text, found the number 7; write it in quotes: "7"`,
		"labels: [a]":                   "1:9 want a mapping (key: value), found a list",
		"labels: {a: 1}":                `1:13 want text, found the number 1; write it in quotes: "1"`,
		"issuers: {g: {max_age: 1m}}":   `1:14 missing: "url"`,
		"issuers: {g: }":                "1:11 no value is given; write one or remove the key",
		"level: loud":                   `1:8 slog: level string "loud": unknown name`,
		"proxy: maybe":                  `1:8 want true or false, found the text "maybe"`,
		"lisen: x":                      `1:1 unknown key "lisen" (did you mean "listen"?)`,
		"Listen: x":                     `1:1 unknown key "Listen" (did you mean "listen"?)`,
		"Ours: x":                       `1:1 unknown key "Ours" (known here: listen, debug, workers, grace, owners, labels, issuers, level, proxy, small, raw)`,
		"issuers: {g: {url: x, ur: y}}": `1:23 unknown key "ur" (did you mean "url"?)`,
	} {
		t.Run(text, func(t *testing.T) {
			text += "\n"
			if !strings.HasPrefix(text, "listen") {
				text += "listen: x\n"
			}
			if diff := cmp.Diff([]string{want}, faults(parse(t, text).Decode(&settings{}))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAllFaultsAreReportedInTheOrderOfTheFile(t *testing.T) {
	n := parse(t, "debug: 1\nissuers:\n  g: {uri: x}\nworkers: many\nowner: [a]\n")
	want := []string{
		`1:1 missing: "listen"`,
		"1:8 want true or false, found the number 1",
		`3:6 missing: "url"`,
		`3:7 unknown key "uri" (did you mean "url"?)`,
		`4:10 want a whole number, found the text "many"`,
		`5:1 unknown key "owner" (did you mean "owners"?)`,
	}
	if diff := cmp.Diff(want, faults(n.Decode(&settings{}))); diff != "" {
		t.Error(diff)
	}
}

func TestAnAbsentValueLeavesWhatItWouldFill(t *testing.T) {
	got := "default"
	if err := parse(t, "a: b\n").Get("gone").Decode(&got); err != nil || got != "default" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := parse(t, "a: b\n").Decode(got); err == nil {
		t.Error("decoding into no pointer gave no error")
	}
}
