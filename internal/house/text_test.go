package house

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The patterns below are joined from pieces, so that this file does not break
// the rules that it keeps.

// machinePath finds paths of one person's machine. It wants their first slash at
// the start of a path: /home/runner and its work folder are GitHub's own.
var machinePath = regexp.MustCompile(`(?:^|[^\w./~$})\]-]|//)/(?:` + strings.Join([]string{"work/", "root/", "tmp/bash" + "_jobs"}, "|") + `)`)

// unfinished finds the marks of work put off.
var unfinished = regexp.MustCompile(`\b(?:` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)

// registryHosts are where packages come from. Committed text names none: which
// registry or mirror to use is the machine's configuration, not ours.
var registryHosts = hosts(
	"proxy golang org", "sum golang org", "goproxy io", "goproxy cn",
	"registry npmjs org", "registry yarnpkg com", "npm pkg github com",
	"pypi org", "pythonhosted org", "crates io", "rubygems org", "repo1 maven org", "repo maven apache org",
	"api nuget org", "packagist org", "registry-1 docker io", "index docker io", "hub docker com",
	"deb debian org", "security debian org", "archive ubuntu com", "dl-cdn alpinelinux org",
)

func hosts(spaced ...string) (joined []string) {
	for _, host := range spaced {
		joined = append(joined, strings.ReplaceAll(host, " ", "."))
	}
	return joined
}

// textNamesNoMachine looks at every committed file, whatever its kind.
func textNamesNoMachine(t *tree) []string {
	return t.eachLine(t.paths(), func(line string) string {
		if found := machinePath.FindString(line); found != "" {
			return fmt.Sprintf("%q is a path of one machine; say it relative to the repository", strings.TrimSpace(found))
		}
		return ""
	})
}

// textNamesNoRegistry looks at every committed file, whatever its kind.
func textNamesNoRegistry(t *tree) []string {
	return t.eachLine(t.paths(), func(line string) string {
		lower := strings.ToLower(line)
		if i := slices.IndexFunc(registryHosts, func(host string) bool { return strings.Contains(lower, host) }); i >= 0 {
			return fmt.Sprintf("names the package registry %q; leave that to the machine's configuration", registryHosts[i])
		}
		return ""
	})
}

// nothingIsPutOff looks at code and configuration, where a mark means unfinished
// work.
func nothingIsPutOff(t *tree) []string {
	code := slices.DeleteFunc(t.paths(), func(name string) bool {
		base := path.Base(name)
		return !slices.Contains([]string{".go", ".yml", ".yaml", ".sql", ".sh"}, path.Ext(name)) &&
			!slices.Contains([]string{"Makefile", "Dockerfile"}, base) && name != ".ci/run"
	})
	return t.eachLine(code, func(line string) string {
		if mark := unfinished.FindString(line); mark != "" {
			return mark + ": finish it or leave it out; what is missing belongs in an issue"
		}
		return ""
	})
}

// eachLine collects what complaint says about the lines of some files.
func (t *tree) eachLine(names []string, complaint func(line string) string) (broken []string) {
	for _, name := range names {
		number := 0
		for line := range strings.SplitSeq(t.files[name], "\n") {
			number++
			if said := complaint(line); said != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %s", name, number, said))
			}
		}
	}
	return broken
}
