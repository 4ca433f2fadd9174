package runnersim

import (
	"sort"
	"strings"
	"sync"
)

// masks hides values in everything that is shown. GitHub's runner also hides some
// encodings of a value (base64, URL, JSON); this one does not, so that an action
// that relies on it is found out.
type masks struct {
	mu     sync.Mutex
	values map[string]bool
}

func newMasks() *masks { return &masks{values: map[string]bool{}} }

// add hides a value, and each of its lines.
func (m *masks) add(value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range append(strings.FieldsFunc(value, isLineEnd), value) {
		if strings.TrimSpace(v) != "" {
			m.values[v] = true
		}
	}
}

func isLineEnd(r rune) bool { return r == '\n' || r == '\r' }

// hide replaces every hidden value by ***. Values that overlap vanish together, so
// that no tail of one shows.
func (m *masks) hide(text string) string {
	spans := m.spans(text)
	if len(spans) == 0 {
		return text
	}
	var out strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		start, end := spans[i][0], spans[i][1]
		for i++; i < len(spans) && spans[i][0] <= end; i++ {
			end = max(end, spans[i][1])
		}
		out.WriteString(text[at:start])
		out.WriteString("***")
		at = end
	}
	out.WriteString(text[at:])
	return out.String()
}

func (m *masks) spans(text string) [][2]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var spans [][2]int
	for v := range m.values {
		for from := 0; ; {
			i := strings.Index(text[from:], v)
			if i < 0 {
				break
			}
			spans = append(spans, [2]int{from + i, from + i + len(v)})
			from += i + 1
		}
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i][0] < spans[j][0] })
	return spans
}
