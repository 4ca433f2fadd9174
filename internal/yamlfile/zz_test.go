package yamlfile

import (
	"fmt"
	yaml4 "go.yaml.in/yaml/v4"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func plain(v *value) any {
	switch v.kind {
	case kindMapping:
		m := map[string]any{}
		for _, e := range v.entries {
			m[e.key] = plain(e.val)
		}
		return m
	case kindList:
		l := []any{}
		for _, e := range v.items {
			l = append(l, plain(e))
		}
		return l
	case kindText:
		return "T" + v.text
	case kindNull:
		return nil
	default:
		return "S"
	}
}
func norm(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = norm(e)
		}
		return m
	case map[any]any:
		m := map[string]any{}
		for k, e := range v {
			m[fmt.Sprint(k)] = norm(e)
		}
		return m
	case []any:
		l := []any{}
		for _, e := range v {
			l = append(l, norm(e))
		}
		return l
	case string:
		return "T" + v
	case nil:
		return nil
	default:
		return "S"
	}
}
func TestZZ(t *testing.T) {
	files, _ := filepath.Glob("../../testdata/tasks/good/*")
	var seeds []string
	for _, f := range files {
		d, _ := os.ReadFile(f)
		seeds = append(seeds, string(d))
	}
	frag := []string{"\n", " ", "  ", ": ", "- ", "{", "}", "[", "]", ",", "\"", "'", "#", " #", "|\n", ">\n", "\n  ", "x", "a: b\n", "\n\n", "-", ":", "a", "|", ">-\n", "\\", "\t", "'x'", "\"y\""}
	r := rand.New(rand.NewSource(3))
	seen := map[string]int{}
	acc, rejboth, ours := 0, 0, 0
	for i := 0; i < 150000; i++ {
		s := seeds[r.Intn(len(seeds))]
		if r.Intn(3) == 0 {
			s = "a: b\nc:\n  - d\n  - e: f\n    g: [h, i]\nj: {k: l}\nm: \"n o\"\np: |\n  q\n  r\n"
		}
		for k := 0; k <= r.Intn(3); k++ {
			p := r.Intn(len(s) + 1)
			q := p
			if r.Intn(2) == 0 {
				q = min(len(s), p+r.Intn(6))
			}
			s = s[:p] + frag[r.Intn(len(frag))] + s[q:]
		}
		n, err := Parse("x", []byte(s))
		if err != nil {
			rejboth++
			continue
		}
		acc++
		var v any
		e4 := yaml4.Unmarshal([]byte(s), &v)
		var kind, detail string
		if e4 != nil {
			kind = "v4 rejects: "
			msg := e4.Error()
			if i := strings.LastIndex(msg, ": "); i > 0 {
				msg = msg[i:]
			}
			kind += msg
			detail = e4.Error()
		} else if a, b := plain(n.val), norm(v); !reflect.DeepEqual(a, b) {
			kind = "differs"
			detail = fmt.Sprintf("%v\n   %v", a, b)
		} else {
			continue
		}
		ours++
		seen[kind]++
		if seen[kind] <= 12 && len(s) < 900 {
			fmt.Printf("== %s\n%s\n   %s\n", kind, s, detail)
		}
	}
	fmt.Println(acc, rejboth, ours, seen)
}
