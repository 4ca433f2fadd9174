package house

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A page is a Markdown file, taken apart as far as links need it.
type page struct {
	lines   []string // fenced blocks are blank
	anchors map[string]bool
}

var (
	inlineCode = regexp.MustCompile("`([^`]+)`")
	// A link's target: ](target), ](<target> "title"), [name]: target, src="target".
	linkTarget = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)|^\s*\[[^\]]+\]:\s*<?([^\s>]+)|(?:src|href|srcset)="([^"]+)"`)
	linkText   = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	namedPlace = regexp.MustCompile(`<[a-zA-Z]+[^>]*\s(?:id|name)="([^"]+)"`)
	heading    = regexp.MustCompile(`^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$`)
	fence      = regexp.MustCompile("^\\s*(```+|~~~+)")
	scheme     = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]*:|//)`)
	lineAnchor = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)
)

func readPage(text string) page {
	p := page{lines: strings.Split(text, "\n"), anchors: map[string]bool{}}
	open := ""
	seen := map[string]int{}
	for i, line := range p.lines {
		mark := fence.FindStringSubmatch(line)
		switch {
		case open == "" && mark != nil:
			open = mark[1]
			p.lines[i] = ""
		case open != "":
			if mark != nil && strings.HasPrefix(mark[1], open) {
				open = ""
			}
			p.lines[i] = ""
		default:
			p.addAnchors(line, seen)
		}
	}
	return p
}

// addAnchors names the places of a line as GitHub does: a heading in lower case,
// without punctuation, spaces as hyphens, and a number from its second time on.
func (p page) addAnchors(line string, seen map[string]int) {
	for _, named := range namedPlace.FindAllStringSubmatch(line, -1) {
		p.anchors[named[1]] = true
	}
	title := heading.FindStringSubmatch(line)
	if title == nil {
		return
	}
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, linkText.ReplaceAllString(title[1], "$1"))
	anchor := slug
	if n := seen[slug]; n > 0 {
		anchor += "-" + strconv.Itoa(n)
	}
	seen[slug]++
	p.anchors[anchor] = true
}

// linksLeadSomewhere: every relative link of every page outside testdata points
// to a committed file or folder, and its fragment to a heading there.
func linksLeadSomewhere(t *tree) (broken []string) {
	for _, name := range t.paths() {
		if path.Ext(name) != ".md" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		for i, line := range readPage(t.files[name]).lines {
			for _, found := range linkTarget.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, ""), -1) {
				target := found[1] + found[2] + found[3] // one of them matched
				if complaint := t.follow(name, target); complaint != "" {
					broken = append(broken, fmt.Sprintf("%s:%d: the link %q %s", name, i+1, target, complaint))
				}
			}
		}
	}
	return broken
}

// follow returns what is wrong with a link on the page from; "" if nothing.
func (t *tree) follow(from, target string) string {
	if scheme.MatchString(target) {
		return "" // the outside world is not ours to test
	}
	file, fragment, _ := strings.Cut(target, "#")
	switch {
	case file == "":
		file = from
	case strings.HasPrefix(file, "/"):
		file = path.Clean(file[1:])
	default:
		file = path.Join(path.Dir(from), file)
	}
	if !t.holds(file) {
		return "leads to " + file + ", which is not committed"
	}
	text, isFile := t.files[file]
	switch {
	case fragment == "":
		return ""
	case path.Ext(file) == ".md":
		if !readPage(text).anchors[fragment] {
			return "leads to a heading that " + file + " does not have"
		}
	case !isFile || !hasLines(text, fragment):
		return "has a fragment that " + file + " does not have"
	}
	return ""
}

func hasLines(text, fragment string) bool {
	lines := lineAnchor.FindStringSubmatch(fragment)
	if lines == nil {
		return false
	}
	last, err := strconv.Atoi(cmp.Or(lines[2], lines[1]))
	return err == nil && last >= 1 && last <= strings.Count(text, "\n")
}

// pagesAreThere: the two pages that everyone looks for first.
func pagesAreThere(t *tree) (broken []string) {
	for _, name := range []string{"README.md", "ARCHITECTURE.md"} {
		if _, ok := t.files[name]; !ok {
			broken = append(broken, name+": there is no such page; this fails until it is written")
		}
	}
	return broken
}

var (
	pathPlace  = regexp.MustCompile(`(:\d+(-\d+)?|#L\d+(-L\d+)?)$`)
	pathMember = regexp.MustCompile(`\.[A-Z]\w*(\.\w+)?(\(\))?$`)
)

// pathsInArchitectureExist: what stands there in backticks and looks like a
// path of this repository is one.
func pathsInArchitectureExist(t *tree) (broken []string) {
	const name = "ARCHITECTURE.md"
	for i, line := range readPage(t.files[name]).lines {
		for _, code := range inlineCode.FindAllStringSubmatch(line, -1) {
			if said := code[1]; looksLikePath(said) && !t.exists(said) {
				broken = append(broken, fmt.Sprintf("%s:%d: %#q looks like a path of this repository, and is none", name, i+1, said))
			}
		}
	}
	return broken
}

// looksLikePath: it begins at a top-level entry, or is a Go file's name.
func looksLikePath(said string) bool {
	if strings.ContainsAny(said, " \t") || strings.HasPrefix(said, "*") {
		return false
	}
	top, _, deep := strings.Cut(strings.TrimPrefix(said, "./"), "/")
	return deep && slices.Contains(topLevel, top) || strings.HasSuffix(pathPlace.ReplaceAllString(said, ""), ".go")
}

// exists takes "exchange/end.go:12", "cmd/...", "exchange/backend/*" and
// "exchange/lease.Begin" for the path in them, and a bare "end.go" for any file
// of that name.
func (t *tree) exists(said string) bool {
	said = strings.TrimPrefix(pathPlace.ReplaceAllString(said, ""), "./")
	said = strings.TrimSuffix(strings.TrimSuffix(said, "..."), "/")
	if t.holds(said) || t.holds(pathMember.ReplaceAllString(said, "")) {
		return true
	}
	return slices.ContainsFunc(t.paths(), func(file string) bool {
		if !strings.Contains(said, "/") {
			return path.Base(file) == said
		}
		for ; file != "."; file = path.Dir(file) {
			if ok, err := path.Match(said, file); err == nil && ok {
				return true
			}
		}
		return false
	})
}
