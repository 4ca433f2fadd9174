package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/exchange/backend/github"
	kube "github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/exchange/backend/mysql"
	"github.com/stepkey/stepkey/exchange/backend/postgres"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/exchange/policy"
)

const schemaFile = "../../docs/task.schema.json"

// everyBackend is what the binary has, by name.
func everyBackend() map[string]policy.Scoper {
	return map[string]policy.Scoper{
		"exec":       exec.New(exec.Options{}),
		"kubernetes": kube.New(kube.Options{}),
		"github":     github.New(github.Options{Owner: "acme"}),
		"mysql":      knowsNothing(mysql.New(mysql.Options{})),
		"postgres":   knowsNothing(postgres.New(postgres.Options{})),
		"registry":   registry.New(registry.Options{}),
		"s3":         s3.New(s3.Options{}),
		"ssh":        ssh.New(ssh.Options{}),
		"vault":      vault.New(vault.Options{}),
	}
}

// knowsNothing is a scoper without a configuration, for which nothing can be wrong.
func knowsNothing(s policy.Scoper, err error) policy.Scoper {
	if err != nil {
		panic(err)
	}
	return s
}

func TestTheCommittedSchemaIsMadeFromTheCode(t *testing.T) {
	want, err := policy.Schema(everyBackend())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("run go test ./exchange/policy -run CommittedSchema -update (-code +file):\n%s", diff)
	}
}

func TestEveryTaskFileOfTheCorpusThatIsTakenIsOneByTheSchema(t *testing.T) {
	s := compiled(t, everyBackend())
	for folder, least := range map[string]int{"good": 100, "fragile": 15} {
		for file, data := range corpusOf(t, folder, least) {
			err := validate(s, data)
			if file == "read-packages.yaml" { // names no repository, and only the tests' backend takes that
				err = refusedByBoth(file, data, err)
			}
			if err != nil {
				t.Errorf("%s/%s: %v", folder, file, err)
			}
		}
	}
	for _, path := range []string{"../../workflows/testdata/publish-release.yaml", "../../cmd/stepkey-demo/publish-release.yaml"} {
		data, err := os.ReadFile(filepath.FromSlash(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, data); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for rule, e := range examples {
		if rule == policy.TaskTest {
			continue // of a file of tests, which has another form
		}
		if err := validate(s, []byte(whole(e.good))); err != nil {
			t.Errorf("the good example of %s: %v", rule, err)
		}
	}
}

func refusedByBoth(file string, data []byte, bySchema error) error {
	against := check()
	against.Backends = everyBackend()
	if _, byReader := policy.Load(fstest.MapFS{file: {Data: data}}, against); byReader == nil || bySchema == nil {
		return fmt.Errorf("it is not refused by both: %w, %w", byReader, bySchema)
	}
	return nil
}

// anyRepositories takes a block without repositories, as the backend does that the
// hostile files are written for: they must be refused for something else.
type anyRepositories struct{ fakeGitHub }

func (anyRepositories) BlockSchema() map[string]any {
	block := github.New(github.Options{}).BlockSchema()
	delete(block, "anyOf")
	return block
}

// Every hostile file is refused by the schema, or stands in unseen with the reason why a
// schema cannot see what is wrong; and not in both.
func TestTheSchemaRefusesWhatItCanSee(t *testing.T) {
	s := compiled(t, map[string]policy.Scoper{"github": anyRepositories{}})
	why := map[string]string{}
	for reason, files := range unseen {
		for _, file := range strings.Fields(files) {
			why[file] = reason
		}
	}
	refused := 0
	for file, data := range corpusOf(t, "bad", 100) {
		name := strings.TrimSuffix(file, ".yaml")
		_, listed := why[name]
		delete(why, name)
		err := validate(s, data)
		var form *jsonschema.ValidationError
		switch seen := errors.As(err, &form); {
		case seen && listed:
			t.Errorf("%s stands in unseen, and the schema sees it: %v", file, err)
		case !seen && !listed:
			t.Errorf("the schema does not refuse %s (%v), and it has no reason in unseen", file, err)
		case seen:
			refused++
		}
	}
	if len(why) > 0 {
		t.Errorf("unseen has files that are not there: %v", slices.Sorted(maps.Keys(why)))
	}
	if refused < 80 {
		t.Errorf("the schema refuses only %d files", refused)
	}
}

// Whatever is put together of these parts: if Load takes it, so does the schema.
func TestTheSchemaRefusesNothingThatIsTaken(t *testing.T) {
	s := compiled(t, everyBackend())
	against := check()
	against.Backends = everyBackend()
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		file := drawnTask(t)
		if _, err := policy.Load(fstest.MapFS{"t.yaml": {Data: []byte(file)}}, against); err != nil {
			return
		}
		taken++
		if err := validate(s, []byte(file)); err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
	})
	if taken < 10 {
		t.Errorf("only %d of the files are taken", taken)
	}
}

// drawnTask mixes values at the edges of what is taken.
func drawnTask(t *rapid.T) string {
	one := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	return fmt.Sprintf("task: t\npurpose: %s\n%sallow:\n  - issuer: github\n    claims: {%s, %s%s}\n%scredential:\n  github: {%s, permissions: %s}\nlimits: {ttl: %s%s}\n%s",
		one("purpose", "p", "'  x '", strings.Repeat("é", 200), strings.Repeat("é", 201)),
		one("inputs", "", "inputs: {v: {enum: [' ', b]}}\n", "inputs: {v: {pattern: 'v[0-9]+', default: v1, max_length: 1000}}\n",
			"inputs: {v: {type: number, min: -3, max: 3, default: -2}}\n", "inputs: {v: {type: text, pattern: '.', example: x, about: ' '}}\n"),
		one("pin", "repository_id: '9223372036854775807'", "repository_owner_id: ['1', '2']", "repository: acme/widget"),
		one("event", "event_name: push", "event_name: [push, schedule]", "event_name: push, event_name2: 'a  b'"),
		one("claim", "", ", repo_property_a: [x, 'y z']", ", 'a,b!~': 'é,$ü{'", ", ref: $x", ", environment: e"),
		one("when", "", "    when: 'true'\n", "    when: [claims.ref == 'x', has(claims.ref)]\n"),
		one("block", "repository_ids: [1]", "repository_ids: ['456789', 9223372036854775807]", "repositories: [w, .w, 'w.git.x']", "repositories: [], repository_ids: [3]",
			"owner: a_b, repositories: ['${claims.run_id}']", "owner: '${claims.repository_owner}', repository_ids: ['${claims.repository_id}']"),
		one("permissions", "{contents: read}", "{contents: '${claims.ref_type == \"branch\" ? \"read\" : \"write\"}'}", "{organization_projects: admin, workflows: write}"),
		one("ttl", "10m", "+0.5m", "1m1s", "24h", "1440m", "086400s", "1000ms", ".5h", "1.h", "24h0m0s", "23h60m"),
		one("limit", "", ", per_job: 100", ", until: this_step", ", per_job: 1, until: job"),
		one("end", "", "require: [pinned_workflow]\n", "require: [protected_environment, pinned_workflow]\n", "bind: request\n", "bind: job\n", "accept: {workflow-unnamed: ' so it is'}\n"))
}

// In claims a text with ${ is a mistake; in the block it is what the reader fills.
func TestTheSchemaTakesExpressionsInTheBlockAlone(t *testing.T) {
	s := compiled(t, everyBackend())
	for file, taken := range map[string]bool{
		whole("credential:\n  github: {owner: '${claims.repository_owner}', repositories: ['a-${claims.ref}'], permissions: {contents: '${inputs.level}'}}\n"): true,
		whole("credential:\n  github: {repository_ids: ['${claims.repository_id}'], permissions: {contents: read}}\n"):                                         true,
		whole(claims("repository_id: ${claims.repository_id}\nevent_name: push")):                                                                              false,
		whole(claims("repository_id: '456789'\nevent_name: push\nref: refs/heads/${claims.ref}")):                                                              false,
	} {
		if err := validate(s, []byte(file)); (err == nil) != taken {
			t.Errorf("want taken: %t; %v\n%s", taken, err, file)
		}
	}
}

func compiled(t *testing.T, backends map[string]policy.Scoper) *jsonschema.Schema {
	t.Helper()
	text, err := policy.Schema(backends)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("task.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := compiler.Compile("task.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate reads a file as an editor does, and not as strictly as the exchange.
func validate(s *jsonschema.Schema, data []byte) error {
	var read any
	if err := yaml.Unmarshal(data, &read); err != nil {
		return err
	}
	text, err := json.Marshal(read)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}
