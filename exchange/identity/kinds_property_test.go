package identity

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naming are, for each row, the claims that tell its jobs apart, strongest first. A token
// that has the last of them is named by all, else by those before.
func naming(k kind) []string {
	return slices.Concat(k.key, []string{k.single}, k.instead)
}

// Whatever the kind: jobs have one key only if all that names them is equal, and a claim
// that names nothing changes nothing.
func TestJobsOfEveryKindHaveOneKeyOnlyIfTheyAreOneJob(t *testing.T) {
	operator := Issuer{Kind: "oidc", Job: &JobClaims{Key: []string{"project", "job"}, Pin: []string{"project"}}}
	for name := range kinds() {
		i := Issuer{Name: "it", Kind: name, Job: operator.Job, TrustDomain: "example.org"}
		k, _ := kindOf(i)
		t.Run(name, func(t *testing.T) {
			one, other := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				a, b := Claims{}, Claims{}
				same := true
				for _, claim := range naming(k) {
					if claim == "" {
						continue
					}
					left := drawClaim(t, k, claim)
					right := left
					if rapid.IntRange(0, 3).Draw(t, "apart") == 0 {
						right = drawClaim(t, k, claim)
					}
					if slices.Contains(k.key, claim) || rapid.Bool().Draw(t, "there") {
						a[claim], b[claim] = left, right
						// What stands in for single decides nothing where single is there.
						if _, single := a[k.single]; !single || !slices.Contains(k.instead, claim) {
							same = same && left == right
						}
					}
				}
				b["tomorrow"] = "a claim that names nothing"
				first, errA := i.names(k, a)
				second, errB := i.names(k, b)
				if (errA == nil) != (errB == nil) {
					t.Fatalf("%v, %v", errA, errB)
				}
				if errA != nil {
					return
				}
				if (first.Key == second.Key) != same || first.Key == "" {
					t.Fatalf("%v and %v have the keys %s and %s", a, b, first.Key, second.Key)
				}
				if same {
					one++
				} else {
					other++
				}
			})
			if one == 0 || other == 0 {
				t.Errorf("%d pairs were one job and %d were two", one, other)
			}
		})
	}
}

// drawClaim is a value of the form that the claim has, out of few, so that two are equal
// now and then.
func drawClaim(t *rapid.T, k kind, claim string) any {
	values := []any{json.Number("7"), "7", "12", "01945ecf-80f0-41e8-9b83-a2970a9305a1", "01945ecf-80f0-41e8-9b83-a2970a9305a2", `a","b`, `a`}
	if k.subject {
		values = []any{"spiffe://example.org/a", "spiffe://example.org/a/b"}
	}
	for _, f := range k.forms {
		if slices.Contains(f.names, claim) {
			values = slices.DeleteFunc(values, func(v any) bool { return !f.form.is(v) })
		}
	}
	if slices.Contains(values, any("7")) { // the same to every policy, as Text has it
		values = slices.DeleteFunc(values, func(v any) bool { return v == json.Number("7") })
	}
	return rapid.SampledFrom(values).Draw(t, claim)
}

// Reading flat is reading: what is written down as it is read reads the same.
func TestFlatClaimsReadAsTheyAre(t *testing.T) {
	k := kubernetes()
	nested, err := decodeObject([]byte(`{"kubernetes.io": {"namespace": "a", "pod": {"name": "b", "uid": "c"}}, "sub": "d"}`))
	if err != nil {
		t.Fatal(err)
	}
	flat, err := k.read(nested)
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.readWritten(flat)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Claims{flat, again} {
		if len(c) != 4 || c["kubernetes.io/pod/uid"] != "c" || c["kubernetes.io/namespace"] != "a" || c["sub"] != "d" {
			t.Errorf("read %v", c)
		}
	}
	if _, inside := Claims(nested)["kubernetes.io/namespace"]; inside {
		t.Error("the claims that were given are changed")
	}
	if _, err := k.readWritten(Claims{"kubernetes.io": map[string]any{"namespace": "a"}, "kubernetes.io/namespace": "b"}); err == nil {
		t.Error("two namespaces are taken")
	}
}
