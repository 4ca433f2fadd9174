package identity

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func TestTwoJobsHaveOneKeyOnlyIfTheyAreOneJob(t *testing.T) {
	github, _ := kindNamed("github")
	id := rapid.StringMatching(`[1-9][0-9]{0,2}`)
	text := rapid.StringOf(rapid.RuneFrom([]rune(`a",[]:\ 1`)))
	draw := func(t *rapid.T, label string) (string, Claims) {
		c := Claims{"repository_id": id.Draw(t, label), "run_id": id.Draw(t, label), "run_attempt": id.Draw(t, label)}
		if rapid.Bool().Draw(t, label) {
			c["check_run_id"] = id.Draw(t, label)
		} else {
			c["workflow_ref"], c["job_workflow_ref"] = text.Draw(t, label), text.Draw(t, label)
		}
		return rapid.SampledFrom([]string{"github", "ghes"}).Draw(t, label), c
	}
	rapid.Check(t, func(t *rapid.T) {
		issuerA, a := draw(t, "a")
		issuerB, b := draw(t, "b")
		switch rapid.SampledFrom([]string{"as drawn", "equal but for one", "text moved"}).Draw(t, "b") {
		case "equal but for one":
			issuerB, b = issuerA, maps.Clone(a)
			name := rapid.SampledFrom([]string{"repository_id", "run_id", "run_attempt"}).Draw(t, "one")
			b[name] = id.Draw(t, name)
		case "text moved": // the trick against a key that only joins its parts
			issuerB = issuerA
			delete(a, "check_run_id")
			between := rapid.SampledFrom([]string{" ", ",", `","`, ":", ""}).Draw(t, "between")
			first, second, third := text.Draw(t, "first"), text.Draw(t, "second"), text.Draw(t, "third")
			a["workflow_ref"], a["job_workflow_ref"] = first, second+between+third
			b = maps.Clone(a)
			b["workflow_ref"], b["job_workflow_ref"] = first+between+second, third
		}
		jobA, errA := github.job(issuerA, a)
		jobB, errB := github.job(issuerB, b)
		if errA != nil || errB != nil {
			t.Fatalf("%v, %v", errA, errB)
		}
		if one := issuerA == issuerB && maps.Equal(a, b); one != (jobA.Key == jobB.Key) {
			t.Fatalf("%v of %s and %v of %s have the keys %s and %s", a, issuerA, b, issuerB, jobA.Key, jobB.Key)
		}
	})
}

func TestAJobsNameIsHarmless(t *testing.T) {
	github, _ := kindNamed("github")
	rapid.Check(t, func(t *rapid.T) {
		job, err := github.job("github", Claims{
			"repository": rapid.String().Draw(t, "repository"), "repository_id": "1", "run_id": "2", "run_attempt": "3", "check_run_id": "4",
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(job.Name) > 200 {
			t.Fatalf("the name has %d bytes", len(job.Name))
		}
		for _, r := range job.Name {
			if r < ' ' || r > '~' || r == '"' || r == '\'' || r == '\\' {
				t.Fatalf("the name holds %q", r)
			}
		}
	})
}

func TestTextOfAClaim(t *testing.T) {
	c, err := decodeObject([]byte(`{"s":"a","n":12,"t":true,"f":false,"z":null,"l":["a"],"o":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"s": "a", "n": "12", "t": "true", "f": "false", "z": "-", "l": "-", "o": "-", "absent": "-"} {
		got, ok := Claims(c).Text(name)
		if ok != (want != "-") || (ok && got != want) {
			t.Errorf("%s is %q, %t", name, got, ok)
		}
	}
}
