package house

// The plan of the house as data. Every rule that speaks of a place reads it here.

// topLevel is every name that may stand at the top of the repository. The
// second half is what forges and tools look for by that name.
var topLevel = []string{
	"action.yml", "Dockerfile", "Makefile", "cmd", "exchange", "internal", "workflows", "testdata", "docs", ".ci",

	"README.md", "ARCHITECTURE.md", "LICENSE", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
	"go.mod", "go.sum", ".gitignore", ".gitattributes", ".dockerignore", ".editorconfig", ".golangci.yml",
}

// A room is a folder with a Go package.
type room struct {
	// imports are the rooms that its non-test files may import. What is not
	// listed is forbidden; tests may import what they like.
	imports []string
	// later: the plan names it, and it may not be there yet.
	later bool
}

var rooms = map[string]room{
	// The step side is a small binary that runs beside other people's code:
	// nothing of the service may come into it.
	"cmd/stepkey":     {imports: []string{"exchange/client", "internal/secret"}},
	"exchange/client": {imports: []string{"internal/secret"}},

	// Wiring: the only room that knows the backends by name.
	"cmd/stepkey-exchange": {imports: []string{
		"exchange", "exchange/identity", "exchange/policy", "exchange/lease", "exchange/backend", "exchange/audit",
		"exchange/backend/exec", "exchange/backend/github", "exchange/backend/kubernetes", "exchange/backend/mysql", "exchange/backend/postgres",
		"exchange/backend/registry", "exchange/backend/s3", "exchange/backend/ssh", "exchange/backend/vault",
		"exchange/githubapp", "exchange/server", "exchange/gateway", "exchange/console", "exchange/client",
		"internal/secret", "internal/yamlfile",
	}},
	"cmd/stepkey-demo": {imports: []string{"exchange/client", "internal/secret", "internal/githubsim", "internal/runnersim"}},

	"exchange": {imports: []string{
		"exchange/identity", "exchange/policy", "exchange/lease", "exchange/backend", "exchange/audit", "internal/secret",
	}},
	"exchange/identity": {},
	"exchange/audit":    {},
	"exchange/policy":   {imports: []string{"exchange/identity", "exchange/backend", "internal/yamlfile"}},
	"exchange/lease": {imports: []string{
		"exchange/identity", "exchange/policy", "exchange/backend", "exchange/audit", "internal/secret",
	}},

	"exchange/backend":             {imports: []string{"internal/secret", "internal/yamlfile"}},
	"exchange/backend/backendtest": {imports: []string{"exchange/backend", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/reach":       {imports: []string{"internal/secret"}},
	"exchange/backend/exec":        {imports: []string{"exchange/backend", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/github":      {imports: []string{"exchange/backend", "exchange/githubapp", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/postgres":    {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/kubernetes":  {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/mysql":       {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/s3":          {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/registry":    {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/ssh":         {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/backend/vault":       {imports: []string{"exchange/backend", "exchange/backend/reach", "internal/secret", "internal/yamlfile"}},
	"exchange/githubapp":           {imports: []string{"internal/secret"}},

	// The doors. They speak to the exchange, never to a backend.
	"exchange/server":  {imports: []string{"exchange", "exchange/client", "internal/secret", "internal/yamlfile"}},
	"exchange/gateway": {imports: []string{"exchange", "internal/secret"}, later: true},
	"exchange/console": {imports: []string{"exchange", "internal/secret"}, later: true},

	"internal/secret":     {},
	"internal/yamlfile":   {},
	"internal/house":      {},
	"internal/githubsim":  {imports: []string{"internal/secret"}},
	"internal/runnersim":  {imports: []string{"internal/secret"}},
	"internal/needs":      {},
	"internal/pgserver":   {imports: []string{"internal/needs"}},
	"internal/realserver": {imports: []string{"internal/needs"}},

	"workflows": {later: true}, // its package, if any, is tests alone
}

// A limit keeps names that are not ours to some rooms, in non-test files. A
// pattern is a room, or "cmd/..." for every room below.
type limit struct {
	// names are import paths (with all below them) for imported, and
	// package.Name for used.
	names []string
	only  []string // the rooms that may; empty with no never: none
	never []string // the rooms that may not; every other may
	why   string
}

var imported = []limit{
	{
		names: []string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/lib/pq", "github.com/pressly/goose", "github.com/go-sql-driver/mysql"},
		only:  []string{"exchange/lease", "exchange/backend/mysql", "exchange/backend/postgres", "internal/pgserver", "internal/realserver"},
		why:   "SQL stands only in the store of leases and in the database backends",
	},
	{
		names: []string{"net/http"},
		never: []string{"exchange", "exchange/policy", "exchange/lease", "exchange/audit"},
		why:   "what decides and what remembers knows nothing of HTTP; server/errors.go turns errors into answers",
	},
	{
		names: []string{"flag", "github.com/alecthomas/kong", "github.com/sethvargo/go-githubactions"},
		only:  []string{"cmd/..."},
		why:   "flags and the runner's environment are read in cmd only and passed on as values",
	},
	{
		names: []string{"github.com/prometheus"},
		only:  []string{"cmd/stepkey-exchange"},
		why:   "exchange tells an Observer what happens; how that is counted and shown is wiring",
	},
	{
		names: []string{"cel.dev/cel-go", "cel.dev/expr"},
		only:  []string{"exchange/policy"},
		why:   "expressions are what task files say; only the policy reads and decides them",
	},
	{
		names: []string{"testing"},
		only:  []string{"exchange/backend/backendtest", "internal/needs"},
		why:   "test code stands in _test.go files; backendtest alone is a suite for other packages' tests",
	},
	{
		names: []string{"math/rand"},
		why:   "version 1 is seeded globally; take math/rand/v2 for jitter and an injected io.Reader of crypto/rand for secrets",
	},
}

var used = []limit{
	{
		names: []string{"os.Environ", "syscall.Environ"},
		only:  []string{"cmd/...", "internal/runnersim"}, // containers are started with PATH and the Docker client's own variables
		why:   "the environment is read in cmd only and passed on as values",
	},
	{
		names: []string{"os.Getenv", "os.LookupEnv", "os.ExpandEnv", "os.Setenv", "os.Unsetenv", "os.Clearenv", "os.Args", "syscall.Getenv"},
		only:  []string{"cmd/...", "internal/needs"}, // which asks whether this is CI
		why:   "the environment and the arguments are read in cmd only and passed on as values",
	},
	{
		names: []string{"os.Exit", "syscall.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"},
		only:  []string{"cmd/..."},
		why:   "only main may end the process: anything else skips the deferred ends of leases",
	},
}

// clocks are the functions that read the wall clock. Calling one is limited to
// clockReadIn; naming time.Now as the default of an injected clock is free.
var clocks = []string{"time.Now", "time.Since", "time.Until"}

// clockReadIn: cmd is where the clock is injected from, and containers keep
// their own time.
var clockReadIn = []string{"cmd/...", "internal/runnersim"}

// ordersMadeIn are the rooms whose code makes a backend.Order. Everyone else gets
// one from a lease's committed intent. Tests below exchange/backend may, too.
var ordersMadeIn = []string{"exchange/lease", "exchange/backend/backendtest"}

// unverifiedIn are the files that may make a workload of claims that nobody vouches for:
// to explain a task file, and to test it.
var unverifiedIn = []string{"cmd/stepkey-exchange/explain.go", "exchange/policy/tasktest.go"}

// issueCalledIn are the files that call a backend's Issue; rooms below
// exchange/backend may, too.
var issueCalledIn = []string{"exchange/exchange.go"}

// Hard limits. What we aim at is far below: files around 150 lines, functions
// around 12, at most 4 parameters.
const (
	maxFileLines     = 600
	maxFunctionLines = 80
	maxParameters    = 5 // a context counts, a receiver does not
)

// emptyNames say nothing about what is inside, so everything ends up there.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "manager"}
