package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/stepkey/stepkey/internal/needs"
)

// docs/cli.md is followed block by block: commands are run, what they print is what the
// page shows, and each CI's recipe is run the way that CI would.

const (
	cliPage      = "../../docs/cli.md"
	pageExchange = "https://lease.example.com"
)

type pageReader struct {
	*testing.T
	world *theWorld
	dir   string
	said  string // by the last command, on stderr
}

var took = regexp.MustCompile(`in \d+ ms`)

func TestThePageOfTheCommandLineWorksAsWritten(t *testing.T) {
	needs.Programs(t, "bash", "cat")
	text, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	p := &pageReader{T: t, world: newWorld(), dir: t.TempDir()}
	t.Cleanup(p.world.close)
	p.furnish()
	last, recipes := "", 0
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		switch block[1] {
		case "sh":
			if strings.Contains(block[2], sshTask) {
				continue // TestThePagesSSHCommandLogsIn
			}
			p.put("svid.jwt", p.world.mintToken(p.world.server.URL), 0o644)
			p.put("token.jwt", p.world.mintToken(p.world.server.URL), 0o644)
			last = p.run(block[2], p.service()...)
		case "json":
			if last != block[2] {
				t.Errorf("the page shows\n%s\nand the command before prints\n%s", block[2], last)
			}
		case "text":
			if said := took.ReplaceAllString(p.said, "in 1 ms"); said != block[2] {
				t.Errorf("the page shows\n%s\nand the command before says\n%s", block[2], said)
			}
		case "yaml":
			p.follow(strings.ReplaceAll(block[2], pageExchange, p.world.server.URL))
			recipes++
		default:
			t.Errorf("nobody knows what to do with a block of %s", block[1])
		}
	}
	if recipes < 6 {
		t.Errorf("only %d recipes", recipes)
	}
}

// furnish puts what the page's commands name into the folder.
func (p *pageReader) furnish() {
	p.Helper()
	self, err := os.Executable()
	if err != nil {
		p.Fatal(err)
	}
	for _, folder := range []string{"bin", "ci"} {
		if err := os.Mkdir(filepath.Join(p.dir, folder), 0o700); err != nil {
			p.Fatal(err)
		}
	}
	for _, name := range []string{"stepkey", "ci-program"} {
		if err := os.Symlink(self, filepath.Join(p.dir, "bin", name)); err != nil {
			p.Fatal(err)
		}
	}
	for _, name := range []string{"buildkite-agent", "circleci"} {
		p.put("ci/"+name, "#!/bin/sh\nexec ci-program \"$@\"\n", 0o700)
	}
	p.put("release.sh", "#!/bin/sh\ntest \"$GH_TOKEN\" = ghs_canary\n", 0o700)
	p.put("login.sh", "#!/bin/sh\ntest \"$(cat)\" = ghs_canary\n", 0o700)
}

func (p *pageReader) put(name, text string, mode os.FileMode) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), mode); err != nil {
		p.Fatal(err)
	}
}

// service is a runner's, for any number of tokens.
func (p *pageReader) service() []string {
	return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + p.world.server.URL + "/idtoken?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token"}
}

func (p *pageReader) run(script string, env ...string) (stdout string) {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = p.dir
	path := filepath.Join(p.dir, "bin")
	if slices.Contains(env, "BUILDKITE=true") || slices.Contains(env, "CIRCLECI=true") {
		path += string(os.PathListSeparator) + filepath.Join(p.dir, "ci")
	}
	cmd.Env = slices.Concat(env, []string{"PATH=" + path + string(os.PathListSeparator) + os.Getenv("PATH"), "NOW=" + storyBegins, "STEPKEY_EXCHANGE=" + p.world.server.URL,
		"WORLD=" + p.world.server.URL, "CALLS=" + filepath.Join(p.dir, "calls"), "RUNNER_TEMP=" + filepath.Join(p.dir, "bin")})
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	p.said = stderr.String()
	if err != nil {
		p.Errorf("%s: %v\n%s", script, err, &stderr)
	}
	return string(out)
}

// follow runs the commands of one CI's file with what that CI would give its job.
func (p *pageReader) follow(text string) {
	p.Helper()
	name := strings.TrimPrefix(strings.SplitN(text, "\n", 2)[0], "# ")
	var file map[string]any
	if err := yaml.UnmarshalWithOptions([]byte(text), &file, yaml.Strict()); err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	if !strings.Contains(text, "STEPKEY_EXCHANGE") || !strings.Contains(text, p.world.server.URL) {
		p.Errorf("%s does not name the exchange", name)
	}
	var env []string
	switch name {
	case ".github/workflows/release.yml":
		if job := within(file, "jobs", "release"); within(job, "permissions")["id-token"] != "write" {
			p.Errorf("%s does not ask for ID tokens", name)
		}
		env = append(p.service(), "GITHUB_ACTIONS=true")
	case ".gitlab-ci.yml":
		env = append(env, "GITLAB_CI=true")
		for variable, entry := range within(file, "release", "id_tokens") {
			env = append(env, variable+"="+p.world.mintToken(fmt.Sprint(within(map[string]any{"e": entry}, "e")["aud"])))
		}
	case ".buildkite/pipeline.yml":
		env = append(env, "BUILDKITE=true")
	case ".circleci/config.yml":
		env = append(env, "CIRCLECI=true")
	case ".forgejo/workflows/release.yml":
		if file["enable-openid-connect"] != true {
			p.Errorf("%s does not ask for ID tokens", name)
		}
		env = append(p.service(), "GITHUB_ACTIONS=true", "GITEA_ACTIONS=true", "FORGEJO_ACTIONS=true")
	case "pod.yaml":
		env = append(env, p.project(file))
	default:
		p.Fatalf("no CI has a file %q", name)
	}
	_ = p.world.takeLog()
	commands := commandsOf(file)
	for _, command := range commands {
		p.run(command, env...)
	}
	log := p.world.takeLog()
	if n := len(commands); n == 0 || strings.Count(log, "/token scope=publish-release") != n || strings.Count(log, "/revoke lease token skl_handle") != n {
		p.Errorf("%s: the commands %q led to\n%s", name, commands, log)
	}
}

func within(tree map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		tree, _ = tree[key].(map[string]any)
	}
	return tree
}

// project does the kubelet's part, as far as it can be done elsewhere: where the file
// would be is checked, and another one is named.
func (p *pageReader) project(pod map[string]any) (variable string) {
	p.Helper()
	text, err := yaml.Marshal(pod)
	if err != nil {
		p.Fatal(err)
	}
	value := func(key string) string {
		found := regexp.MustCompile(`(?m)\b` + key + `: "?([^"\n]+)"?$`).FindStringSubmatch(string(text))
		if found == nil {
			p.Fatalf("the pod has no %s:\n%s", key, text)
		}
		return found[1]
	}
	if got := value("mountPath") + "/" + value("path"); got != kubernetesFile {
		p.Errorf("the pod's token is at %s, and kubernetes looks at %s", got, kubernetesFile)
	}
	p.put("projected", p.world.mintToken(value("audience")), 0o644)
	return tokenFileVariable + "=" + filepath.Join(p.dir, "projected")
}

// commandsOf are the command lines of stepkey anywhere in a CI's file, in order.
func commandsOf(tree any) (commands []string) {
	switch tree := tree.(type) {
	case string:
		if strings.HasPrefix(tree, "stepkey ") || strings.HasPrefix(tree, "$RUNNER_TEMP/stepkey ") {
			return []string{tree}
		}
	case []any:
		if len(tree) > 0 && tree[0] == "stepkey" {
			words := make([]string, len(tree))
			for i, word := range tree {
				words[i] = shellQuoted(fmt.Sprint(word))
			}
			return []string{strings.Join(words, " ")}
		}
		for _, element := range tree {
			commands = append(commands, commandsOf(element)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			commands = append(commands, commandsOf(tree[key])...)
		}
	}
	return commands
}

// The page's tables are the program's: every source, every sign of one, every command
// and every exit code stands there.
func TestThePageOfTheCommandLineLeavesNothingOut(t *testing.T) {
	page, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `?([^`|]+)`? \\|").FindAllStringSubmatch(string(page), -1) {
		rows[strings.TrimSpace(row[1])] = true
	}
	want := sourceForms()
	for _, g := range theGrammar() {
		if g.name != "version" {
			want = append(want, "stepkey "+g.name)
		}
	}
	for code := 0; code <= exitOver; code++ {
		want = append(want, fmt.Sprint(code))
	}
	for _, row := range want {
		if !rows[row] {
			t.Errorf("no table has a row of %s", row)
		}
	}
	for _, rank := range signs {
		for _, sign := range rank {
			for _, name := range regexp.MustCompile(`[A-Z_]{6,}|/[a-z/]+`).FindAllString(sign.seen, -1) {
				if !strings.Contains(string(page), "`"+name) {
					t.Errorf("the page does not say what %s shows", name)
				}
			}
		}
	}
	for code, words := range map[int]string{exitFailed: "failed here", exitUsage: "makes no sense", exitRefused: "the exchange refused", exitNoAnswer: "trying again may help"} {
		if !strings.Contains(scriptCodes, fmt.Sprintf("\n  %d  ", code)) || !strings.Contains(scriptCodes, words) {
			t.Errorf("the help does not tell of exit code %d", code)
		}
	}
}
