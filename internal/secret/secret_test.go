package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

const canary = "ghs_canary-4f1c"

func TestASecretIsNotPrinted(t *testing.T) {
	s := secret.New(canary)
	holder := struct {
		Public string
		Inner  secret.String
		hidden secret.String
	}{"seen", s, s}

	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T", "%t"} {
		printed["value "+verb] = fmt.Sprintf(verb, s)
		printed["pointer "+verb] = fmt.Sprintf(verb, &s)
		printed["struct "+verb] = fmt.Sprintf(verb, holder)
		printed["slice "+verb] = fmt.Sprintf(verb, []secret.String{s})
		printed["map "+verb] = fmt.Sprintf(verb, map[string]secret.String{"k": s})
		printed["error "+verb] = fmt.Sprintf(verb, fmt.Errorf("issuing %v: %w", s, errors.New("no")))
	}
	printed["json"] = encode(t, json.Marshal, holder)
	printed["json key"] = encode(t, json.Marshal, map[secret.String]int{s: 1})
	printed["xml"] = encode(t, xml.Marshal, s)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var out bytes.Buffer
		slog.New(handler(&out)).Info("issued", "token", s, "all", holder, "group", slog.GroupValue(slog.Any("t", s)))
		printed[name] = out.String()
	}

	for where, text := range printed {
		if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary)) {
			t.Errorf("%s shows the secret: %s", where, text)
		}
	}
}

func TestASecretIsRevealedOnDemand(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("Reveal() = %q", got)
	}
	var zero secret.String
	if !zero.Empty() || zero.Reveal() != "" || secret.New(canary).Empty() || !secret.New("").Empty() {
		t.Error("only a secret without a value is empty")
	}
}

func TestASecretIsReadFromConfiguration(t *testing.T) {
	var read struct{ Password secret.String }
	if err := json.Unmarshal([]byte(`{"password":"`+canary+`"}`), &read); err != nil {
		t.Fatal(err)
	}
	if read.Password.Reveal() != canary {
		t.Error("the value was lost")
	}
	err := json.Unmarshal([]byte(`{"password":[{"`+canary+`":1}]}`), &read)
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a wrong type must be refused without quoting it: %v", err)
	}
}

func encode[T any](t *testing.T, marshal func(any) ([]byte, error), value T) string {
	t.Helper()
	out, err := marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
