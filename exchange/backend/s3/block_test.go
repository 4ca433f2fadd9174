package s3_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/s3"
)

func limited() *s3.Backend {
	return s3.New(s3.Options{Limits: s3.Limits{Buckets: []string{"backups", "artifacts"}}})
}

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	for block, want := range map[string]string{
		`{bucket: backups, prefix: widget/nightly/, actions: [write]}`:               "write in the bucket backups, below widget/nightly/",
		`{bucket: artifacts, prefix: "a=b/(c)/", actions: [write, read]}`:            "read and write in the bucket artifacts, below a=b/(c)/",
		`{bucket: artifacts, prefix: v1.2.3/, actions: [write, delete, list, read]}`: "delete, list, read and write in the bucket artifacts, below v1.2.3/",
	} {
		scope, err := limited().Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return limited().Scope(node(t, block)) }, []backendtest.Bad{
		{`[backups]`, "2:7", "want a bucket, a prefix"},
		{`{bucket: backups, actions: [read]}`, "2:7", `missing: "prefix"`},
		{`{bucket: backup, prefix: a/, actions: [read]}`, "2:16", `did you mean "backups"?`},
		{`{bucket: zzzzzz, prefix: a/, actions: [read]}`, "2:16", "which are: backups, artifacts"},
		{`{bucket: Backups, prefix: a/, actions: [read]}`, "2:16", "want 3 to 63 of a-z"},
		{`{bucket: 127.0.0.1, prefix: a/, actions: [read]}`, "2:16", "no bucket of such a name"},
		{`{bucket: backups, prefix: a, actions: [read]}`, "2:33", "so that widget/ does not take in widget-2/"},
		{`{bucket: backups, prefix: /a/, actions: [read]}`, "2:33", "keys begin with no /"},
		{`{bucket: backups, prefix: "", actions: [read]}`, "2:33", "each end with /"},
		{`{bucket: backups, prefix: "a/*/", actions: [read]}`, "2:33", "each end with /"},
		{`{bucket: backups, prefix: a/../, actions: [read]}`, "2:33", "mean something else"},
		{`{bucket: backups, prefix: a/, actions: []}`, "2:46", "good for nothing"},
		{`{bucket: backups, prefix: a/, actions: [reads]}`, "2:47", `did you mean "read"?`},
		{`{bucket: backups, prefix: a/, actions: [read, read]}`, "2:53", "named twice"},
		{`{bucket: backups, prefix: a/, actions: [7]}`, "2:47", "want text"},
		{`{bucket: backups, prefix: a/, actions: [read], ttl: 5m}`, "2:54", "unknown key"},
	})
}

func TestCoversIsAnOrder(t *testing.T) {
	b := limited()
	backendtest.CoversIsAnOrder(t, func(r *rapid.T, label string) backend.Scope {
		actions := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"read", "write", "list", "delete"}), 1, 4, rapid.ID).Draw(r, label+" actions")
		prefix := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a/", "b/", "ab/"}), 1, 3).Draw(r, label+" prefix"), "")
		bucket := rapid.SampledFrom([]string{"backups", "artifacts"}).Draw(r, label+" bucket")
		scope, err := b.Scope(node(t, "{bucket: "+bucket+", prefix: "+prefix+", actions: ["+strings.Join(actions, ", ")+"]}"))
		if err != nil {
			r.Fatal(err)
		}
		return scope
	}, func(s backend.Scope) string { return s.String() })
}

func TestAPrefixCoversWhatIsBelowAndNothingBeside(t *testing.T) {
	of := func(prefix string) backend.Scope {
		scope, err := limited().Scope(node(t, "{bucket: backups, prefix: "+prefix+", actions: [read]}"))
		if err != nil {
			t.Fatal(err)
		}
		return scope
	}
	if !of("widget/").Covers(of("widget/nightly/")) || of("widget/nightly/").Covers(of("widget/")) || of("widget/").Covers(of("widget-2/")) {
		t.Error("a prefix covers what is not below it, or not what is")
	}
}

func TestConfigurationsAreRefusedWithTheKey(t *testing.T) {
	good := s3.Config{Kind: "minio", Endpoint: "https://minio.example.com:9000", AccessKey: "stepkey", SecretKeyFile: "none", Buckets: []string{"backups"}}
	for want, change := range map[string]func(*s3.Config){
		"kind:":                             func(c *s3.Config) { c.Kind = "gcs" },
		"buckets: name those":               func(c *s3.Config) { c.Buckets = nil },
		`buckets: "A" is none`:              func(c *s3.Config) { c.Buckets = []string{"A"} },
		"endpoint: say where":               func(c *s3.Config) { c.Endpoint = "" },
		"endpoint: want https, since":       func(c *s3.Config) { c.Endpoint = "http://minio.example.com" },
		"endpoint: want https:// and":       func(c *s3.Config) { c.Endpoint = "https://u:p@minio.example.com" },
		"role: MinIO has none":              func(c *s3.Config) { c.Role = stsRole },
		"access_key:":                       func(c *s3.Config) { c.AccessKey = "a b" },
		"region: say which":                 func(c *s3.Config) { c.Kind, c.Role = "aws", stsRole },
		"region: \"x/y\" is none of AWS":    func(c *s3.Config) { c.Kind, c.Role, c.Region = "aws", stsRole, "x/y" },
		"region: \"a/b\" is none; want up":  func(c *s3.Config) { c.Region = "a/b" },
		"endpoint: say where the server is": func(c *s3.Config) { c.Kind, c.Role, c.Endpoint = "sts", stsRole, "" },
		`role: "" is none`:                  func(c *s3.Config) { c.Kind = "sts" },
		"nodes: STS has none":               func(c *s3.Config) { c.Kind, c.Role, c.Nodes = "sts", stsRole, []string{"https://a.example"} },
		"source_identity: only AWS":         func(c *s3.Config) { c.SourceIdentity = true },
		`role: "admin" is none`:             func(c *s3.Config) { c.Kind, c.Role, c.Region = "aws", "admin", "eu-central-1" },
		"nodes: \"http://a.example\": want": func(c *s3.Config) { c.Nodes = []string{"http://a.example"} },
		"nodes: AWS has none": func(c *s3.Config) {
			c.Kind, c.Role, c.Region, c.Nodes = "aws", stsRole, "eu-central-1", []string{"https://a.example"}
		},
		`listed: "artifacts" is none of`: func(c *s3.Config) { c.Listed = []string{"artifacts"} },
		"listed: AWS keeps": func(c *s3.Config) {
			c.Kind, c.Role, c.Region, c.Listed = "aws", stsRole, "eu-central-1", []string{"backups"}
		},
		"endpoint: say where STS of aws-x": func(c *s3.Config) {
			c.Kind, c.Role, c.Region, c.Endpoint = "aws", "arn:aws-x:iam::123456789012:role/a", "eu-central-1", ""
		},
		"secret_key_file: reading":       func(*s3.Config) {},
		"ca_file: reading certificates:": func(c *s3.Config) { c.CAFile = "none.pem" },
	} {
		c := good
		change(&c)
		if _, err := c.Open(time.Now); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %s…", err, want)
		}
	}
	insecure := good
	insecure.Endpoint, insecure.InsecureHTTP = "http://minio.example.com", true
	if _, err := insecure.Open(time.Now); err == nil || !strings.HasPrefix(err.Error(), "secret_key_file") {
		t.Errorf("with insecure_http: %v; want only the file missed", err)
	}
}

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, s3.New(s3.Options{}),
		`{"bucket":"backups","prefix":"widget/nightly/","actions":["read"]}`, `{"bucket":"a.b-c","prefix":"a/","actions":["write","list"]}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	b := s3.New(s3.Options{})
	backendtest.SchemaTakes(t, b, map[string]bool{
		`{"bucket":"b-${inputs.stage}","prefix":"${inputs.version}/","actions":["read"]}`: true,
		`{"bucket":"backups","prefix":"a","actions":["read"]}`:                            false,
		`{"bucket":"backups","prefix":"a/","actions":[]}`:                                 false,
		`{"bucket":"Backups","prefix":"a/","actions":["read"]}`:                           false,
		`{"bucket":"backups","prefix":"a/","actions":["admin"]}`:                          false,
		`{"bucket":"backups","actions":["read"]}`:                                         false,
	})
	backendtest.SchemaHasWords(t, b, 3)
}

func FuzzBlocks(f *testing.F) {
	backendtest.FuzzBlocks(f, limited(), s3.New(s3.Options{}), "*?$", append(slices.Collect(maps.Values(hostile)),
		"bucket: backups\nprefix: widget/nightly/\nactions: [read, write]")...)
}
