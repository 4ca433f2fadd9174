package main

// nearest is the name that a writer most likely meant by word, or "". Names differ in
// small letters and hyphens alone.
func nearest(word string, names []string) string {
	best, limit := "", max(len(word)/3, 1)+1
	if len(word) > 64 {
		return ""
	}
	for _, name := range names {
		if d := edits(word, name); d < limit {
			best, limit = name, d
		}
	}
	return best
}

// edits is Levenshtein's distance in bytes, with two neighbours swapped as one edit.
func edits(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := last[j]
			if a[i] != b[j] {
				cost = min(last[j], last[j+1], row[j]) + 1
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			row[j+1] = cost
		}
		before, last = last, row
	}
	return last[len(b)]
}
