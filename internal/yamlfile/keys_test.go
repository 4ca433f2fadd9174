package yamlfile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// What KeysOf names is what Decode knows: a mapping of just the required ones is taken,
// and without one of them there is a fault.
func TestTheKeysOfAStructAreThoseThatAreDecoded(t *testing.T) {
	want := []yamlfile.Key{{Name: "url", Required: true}, {Name: "max_age"}}
	if diff := cmp.Diff(want, yamlfile.KeysOf[issuer]()); diff != "" {
		t.Error(diff)
	}
	if err := parse(t, "url: x\n").Decode(&issuer{}); err != nil {
		t.Error(err)
	}
	if err := parse(t, "max_age: 1m\n").Decode(&issuer{}); err == nil {
		t.Error("a required key is missing, and that is taken")
	}
	for _, key := range yamlfile.KeysOf[settings]() {
		if key.Name == "Ours" || key.Name == "" {
			t.Errorf("a field without a tag is named as %q", key.Name)
		}
	}
}
