package house

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// A breach is a small tree, as a txtar archive, and what one rule says of it.
type breach struct {
	rule string
	name string
	tree string
	want []string // one substring per complaint, in order; none: the tree is fine
}

// A rule that cannot fail is no rule; one that fails on honest code is soon
// switched off. So every rule stands here with trees that break it and with the
// nearest trees that do not.
func TestEachRuleFailsWhereItShouldAndOnlyThere(t *testing.T) {
	byName := map[string]func(*tree) []string{}
	failed := map[string]bool{}
	for _, rule := range rules {
		byName[rule.name] = rule.check
		failed[rule.name] = false
	}
	for _, table := range [][]breach{roomBreaches, shapeBreaches, orderBreaches, pageBreaches, textBreaches()} {
		for _, breach := range table {
			t.Run(breach.rule+"/"+breach.name, func(t *testing.T) {
				check, ok := byName[breach.rule]
				if !ok {
					t.Fatalf("there is no rule %q", breach.rule)
				}
				compare(t, check(fromText(breach.tree)), breach.want)
			})
			failed[breach.rule] = failed[breach.rule] || len(breach.want) > 0
		}
	}
	for name, has := range failed {
		if !has {
			t.Errorf("no tree here breaks the rule %q", name)
		}
	}
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d complaints, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("complaint %d is\n\t%s\nand should contain\n\t%s", i+1, got[i], want[i])
		}
	}
}

// A bare house has one file in each room that the plan wants now, and passes.
func bareHouse() map[string]string {
	files := map[string]string{"go.mod": "module " + module}
	for dir, room := range rooms {
		if !room.later {
			files[dir+"/doc.go"] = "package p\n"
		}
	}
	return files
}

func TestRoomsAreThoseOfThePlanNoMoreAndNoLess(t *testing.T) {
	compare(t, roomsAreNamed(newTree(bareHouse())), nil)

	grown := bareHouse()
	maps.Copy(grown, map[string]string{
		"exchange/gateway/gateway.go":      "package gateway\n", // named, and only now built
		"exchange/lease/schema/1.sql":      "CREATE TABLE lease (id TEXT);\n",
		"exchange/backend/smtp/smtp.go":    "package smtp\n",
		"pkg/thing.go":                     "package pkg\n",
		"notes.txt":                        "remember\n",
		"internal/house/testdata/x/bad.go": "not Go at all",
	})
	compare(t, roomsAreNamed(newTree(grown)), []string{
		"exchange/backend/smtp: a room without a rule",
		"notes.txt: the plan names no such top-level entry",
		"pkg: a room without a rule",
		"pkg: the plan names no such top-level entry",
	})

	shrunk := bareHouse()
	delete(shrunk, "exchange/lease/doc.go")
	compare(t, roomsAreNamed(newTree(shrunk)), []string{"exchange/lease: the plan names this room, and it has no Go file"})
}

var roomBreaches = []breach{
	{"every Go file parses", "a syntax error", "-- exchange/a.go --\npackage exchange\nfunc {\n", []string{"exchange/a.go:2"}},
	{"every Go file parses", "hostile input in testdata is not code", "-- exchange/testdata/a.go --\nfunc {\n", nil},
	{"every room is in the plan", "an empty repository has no rooms", "", missingRooms()},

	{"imports follow the plan", "the exchange knows a backend by name", `
-- exchange/exchange.go --
package exchange
import _ "github.com/stepkey/stepkey/exchange/backend/github"
`, []string{"exchange/exchange.go:2: exchange may not import exchange/backend/github"}},
	{"imports follow the plan", "one backend leans on another", `
-- exchange/backend/s3/s3.go --
package s3
import _ "github.com/stepkey/stepkey/exchange/backend/github"
`, []string{"exchange/backend/s3 may not import exchange/backend/github"}},
	{"imports follow the plan", "the service comes into the action's binary", `
-- cmd/stepkey/main.go --
package main
import (
	_ "github.com/stepkey/stepkey/exchange/client"
	_ "github.com/stepkey/stepkey/exchange/identity"
)
`, []string{"cmd/stepkey/main.go:4: cmd/stepkey may not import exchange/identity"}},
	{"imports follow the plan", "the simulator comes into the service, and may come into its tests", `
-- cmd/stepkey-exchange/main.go --
package main
import _ "github.com/stepkey/stepkey/internal/githubsim"
-- cmd/stepkey-exchange/main_test.go --
package main
import _ "github.com/stepkey/stepkey/internal/githubsim"
-- cmd/stepkey-demo/main.go --
package main
import _ "github.com/stepkey/stepkey/internal/githubsim"
`, []string{"cmd/stepkey-exchange/main.go:2: cmd/stepkey-exchange may not import internal/githubsim"}},
	{"imports follow the plan", "a room that the plan does not name may import nothing of ours", `
-- exchange/extra/extra.go --
package extra
import _ "github.com/stepkey/stepkey/internal/secret"
`, []string{"exchange/extra may not import internal/secret; it may import nothing of ours"}},
	{"imports follow the plan", "SQL outside the store", `
-- exchange/audit/audit.go --
package audit
import "database/sql"
-- exchange/server/server.go --
package server
import _ "github.com/jackc/pgx/v5/pgxpool"
-- exchange/lease/store.go --
package lease
import (
	"database/sql"
	_ "modernc.org/sqlite"
)
`, []string{"exchange/audit/audit.go:2: exchange/audit may not import database/sql: SQL stands only", "exchange/server may not import github.com/jackc/pgx/v5/pgxpool"}},
	{"imports follow the plan", "HTTP where things are decided", `
-- exchange/policy/policy.go --
package policy
import "net/http"
-- exchange/identity/keys.go --
package identity
import "net/http"
`, []string{"exchange/policy/policy.go:2: exchange/policy may not import net/http"}},
	{"imports follow the plan", "flags, test code and global randomness in a library", `
-- exchange/githubapp/app.go --
package githubapp
import (
	"flag"
	"math/rand"
	"math/rand/v2"
	"testing"
)
-- exchange/backend/backendtest/suite.go --
package backendtest
import "testing"
-- cmd/stepkey/main.go --
package main
import "github.com/alecthomas/kong"
`, []string{"app.go:3: exchange/githubapp may not import flag", "app.go:4: exchange/githubapp may not import math/rand", "app.go:6: exchange/githubapp may not import testing"}},
	{"imports follow the plan", "a dot import", `
-- exchange/audit/audit.go --
package audit
import . "fmt"
`, []string{"exchange/audit/audit.go:2: a dot import"}},

	{"environment, arguments and exit stay in cmd", "a library reads the environment under another name", `
-- exchange/server/server.go --
package server
import env "os"
var addr = env.Getenv("ADDR")
`, []string{"exchange/server/server.go:3: exchange/server may not use os.Getenv"}},
	{"environment, arguments and exit stay in cmd", "a library ends the process", `
-- exchange/lease/keeper.go --
package lease
import ("log"; "os")
func f() { log.Fatalf("no"); os.Exit(1) }
func g() { log.Printf("yes") }
`, []string{"may not use log.Fatalf", "may not use os.Exit"}},
	{"environment, arguments and exit stay in cmd", "cmd, tests and the runner's simulator", `
-- cmd/stepkey/main.go --
package main
import "os"
func main() { os.Exit(len(os.Args) + len(os.Getenv("X"))) }
-- exchange/server/server_test.go --
package server
import "os"
var _ = os.Getenv("CI")
-- internal/runnersim/run.go --
package runnersim
import "os"
var e, x = os.Environ(), os.Getenv("X")
`, []string{"internal/runnersim/run.go:3: internal/runnersim may not use os.Getenv"}},

	{"clocks are injected", "a call, and a default", `
-- exchange/lease/keeper.go --
package lease
import "time"
var now = time.Now
var late = time.Since(time.Now()) > time.Duration(1)
-- cmd/stepkey/main.go --
package main
import "time"
var started = time.Now()
`, []string{"exchange/lease/keeper.go:4: exchange/lease reads the wall clock", "exchange/lease/keeper.go:4"}},
}

func missingRooms() (want []string) {
	for _, complaint := range roomsAreNamed(newTree(nil)) {
		dir, _, _ := strings.Cut(complaint, ":")
		want = append(want, dir+": the plan names this room, and it has no Go file")
	}
	return want
}

var shapeBreaches = []breach{
	{"sizes stay readable", "a function of 81 lines, a literal of 81 lines", fmt.Sprintf(`
-- exchange/a.go --
package exchange
// A comment above does not count.
func long() {
%[1]s}
var literal = func() {
%[1]s}
`, strings.Repeat("\tprintln()\n", 79)), []string{"exchange/a.go:3: long has 81 lines", "a function literal has 81 lines"}},
	{"sizes stay readable", "a function of exactly 80 lines", "-- exchange/a.go --\npackage exchange\nfunc f() {\n" + strings.Repeat("\tprintln()\n", 78) + "}\n", nil},
	{"sizes stay readable", "six parameters", `
-- exchange/a.go --
package exchange
func (r R) six(ctx C, a, b, c, d, e int) {}
func (r R) five(ctx C, a, b, c, d int) {}
`, []string{"exchange/a.go:2: six takes 6 parameters"}},
	{"sizes stay readable", "a file of 601 lines", "-- exchange/a.go --\npackage exchange\n" + strings.Repeat("//\n", 600), []string{"exchange/a.go: 601 lines"}},
	{"sizes stay readable", "a file of 600 lines", "-- exchange/a.go --\npackage exchange\n" + strings.Repeat("//\n", 599), nil},

	{"names say what is inside", "files, folders and packages", `
-- exchange/helpers_test.go --
package exchange
-- exchange/utils/a.go --
package strutil
-- exchange/audit/a.go --
package common
-- exchange/audit/typesetting.go --
package audit_test
`, []string{"exchange/audit/a.go: \"common\"", "exchange/helpers_test.go: \"helpers\"", "exchange/utils/a.go: \"utils\""}},

	{"nothing runs before main", "init", `
-- exchange/a.go --
package exchange
func init() {}
func (s S) init() {}
`, []string{"exchange/a.go:2: func init"}},

	{"tests do not sleep", "a sleeping test", `
-- exchange/a_test.go --
package exchange
import "time"
func f() { time.Sleep(time.Second) }
-- exchange/b.go --
package exchange
import "time"
func f() { time.Sleep(time.Second) }
`, []string{"exchange/a_test.go:3: tests do not sleep"}},
}

var orderBreaches = []breach{
	{"orders come from leases", "every way to make one", `
-- exchange/exchange.go --
package exchange
import b "github.com/stepkey/stepkey/exchange/backend"
type order = b.Order
var empty b.Order
var (
	one  = b.Order{}
	two  = &b.Order{Lease: "x"}
	many = []b.Order{{Lease: "x"}}
	each = map[string]*b.Order{"x": {}}
	new1 = new(b.Order)
)
func hand(o b.Order) b.Order { return o }
type holder struct { order b.Order; orders []b.Order }
var none = []b.Order{}
var other = c.Order{}
-- exchange/backend/backend.go --
package backend
type Order struct{}
var early = Order{}
`, []string{
		"exchange/backend/backend.go:3", "exchange.go:3", "exchange.go:4", "exchange.go:6", "exchange.go:7",
		"exchange.go:8", "exchange.go:9", "exchange.go:10",
	}},
	{"orders come from leases", "the lease, the suite and the backends' tests make them", `
-- exchange/lease/lease.go --
package lease
import "github.com/stepkey/stepkey/exchange/backend"
var o = backend.Order{}
-- exchange/backend/backendtest/suite.go --
package backendtest
import "github.com/stepkey/stepkey/exchange/backend"
var o = backend.Order{}
-- exchange/backend/github/github_test.go --
package github
import "github.com/stepkey/stepkey/exchange/backend"
var o = backend.Order{}
-- exchange/server/server_test.go --
package server
import "github.com/stepkey/stepkey/exchange/backend"
var o = backend.Order{}
-- exchange/backend/github/github.go --
package github
import "github.com/stepkey/stepkey/exchange/backend"
var o = backend.Order{}
`, []string{"exchange/backend/github/github.go:3", "exchange/server/server_test.go:3"}},

	{"issue is called once", "a second caller, and a method value", `
-- exchange/exchange.go --
package exchange
func f() { b.Issue(ctx, o) }
-- exchange/end.go --
package exchange
func g() { b.Issue(ctx, o) }
-- exchange/server/server.go --
package server
var issue = x.backend.Issue
-- exchange/backend/github/github.go --
package github
func h() { app.Issue() }
-- exchange/exchange_test.go --
package exchange
func t() { b.Issue(ctx, o) }
-- internal/githubsim/oidc.go --
package githubsim
func t() { issuer.Issue() }
`, []string{"exchange/end.go:2: Issue is called in exchange/exchange.go alone", "exchange/server/server.go:2"}},

	{"workloads are verified", "the server makes one of any claims, by a call and by a name", `
-- exchange/server/server.go --
package server
import who "github.com/stepkey/stepkey/exchange/identity"
var w, _ = who.Unverified(i, claims)
var make = who.Unverified
-- exchange/policy/tasktest.go --
package policy
import "github.com/stepkey/stepkey/exchange/identity"
var w, _ = identity.Unverified(i, claims)
-- exchange/server/server_test.go --
package server
import "github.com/stepkey/stepkey/exchange/identity"
var w, _ = identity.Unverified(i, claims)
`, []string{"exchange/server/server.go:3: identity.Unverified is for", "exchange/server/server.go:4"}},
}

var pageBreaches = []breach{
	{"the first pages are there", "no README", "-- ARCHITECTURE.md --\n# A\n", []string{"README.md: there is no such page"}},
	{"the first pages are there", "both", "-- ARCHITECTURE.md --\n-- README.md --\n", nil},

	{"links lead somewhere", "files, folders, headings and lines", strings.ReplaceAll(`
-- README.md --
# Stepkey: a key, for one step!
[a](docs/tasks.md) [b](docs) [c](docs/tasks.md#write-a-task-1) [d](#stepkey-a-key-for-one-step) [e](/docs/tasks.md)
[f](https://example.com/none) [g](mailto:a@example.com) ![h](docs/logo.svg "the logo") [i](docs/tasks.md#here)
[![j](docs/missing.svg)](docs/gone.md)
<img src="docs/none.png"> [k](../outside.md)
[l](docs/tasks.md#nowhere) [m](docs/logo.svg#L2) [n](docs/logo.svg#L1-L9)
'''
[in a fence](nothing.md)
'''
'[in code](nothing.md)' [ref][r]

[r]: docs/nothing.md
-- docs/tasks.md --
# Write a 'task'
## Write a task
<a id="here"></a> [up](../README.md) [wrong](README.md)
-- docs/logo.svg --
<svg>
</svg>
`, "'", "`"), []string{
		`README.md:4: the link "docs/missing.svg"`, `README.md:4: the link "docs/gone.md"`,
		`README.md:5: the link "docs/none.png"`, `README.md:5: the link "../outside.md"`,
		`README.md:6: the link "docs/tasks.md#nowhere" leads to a heading`, `README.md:6: the link "docs/logo.svg#L1-L9" has a fragment`,
		`README.md:12: the link "docs/nothing.md"`, `docs/tasks.md:3: the link "README.md" leads to docs/README.md`,
	}},

	{"paths in ARCHITECTURE.md exist", "paths, and what only looks like one", strings.ReplaceAll(`
-- ARCHITECTURE.md --
'exchange/end.go' 'exchange/end.go:2' 'end.go' 'exchange/' 'exchange/...' 'exchange/backend/*' 'exchange.Token'
'exchange/lease.Begin' 'application/json' 'POST /token' 'net/http' './exchange/end.go' '*.go' 'go test ./...'
'exchange/gone.go' 'gone.go' 'docs/gone.md'
'internal/gone' 'exchange/gone/*'
'''
exchange/fenced.go
'''
-- exchange/end.go --
package exchange
-- exchange/lease/lease.go --
package lease
-- exchange/backend/github/github.go --
package github
`, "'", "`"), []string{"ARCHITECTURE.md:3: `exchange/gone.go`", "3: `gone.go`", "3: `docs/gone.md`", "4: `internal/gone`", "4: `exchange/gone/*`"}},
}

// textBreaches joins the forbidden words from pieces, as text_test.go does.
func textBreaches() []breach {
	put := func(text string) string {
		return strings.NewReplacer("W!", "wo"+"rk", "R!", "ro"+"ot", "J!", "bash"+"_jobs", "D!", "TO"+"DO", "F!", "FIX"+"ME", "X!", "X"+"XX").Replace(text)
	}
	return []breach{
		{"text names no machine", "paths of one machine, and GitHub's own", put(`
-- docs/a.md --
see /W!/main/go.mod
in '/R!/go'
log:/tmp/J!.0/x
file:///R!/x
/home/runner/W!/widget/widget, $RUNNER_TEMP/W!/x, a/R!/b, /W!flows/x, ../W!/x
-- exchange/testdata/a.txtar --
"/W!/a"
`), []string{"docs/a.md:1", "docs/a.md:2", "docs/a.md:3", "docs/a.md:4", "exchange/testdata/a.txtar:1"}},
		{"text names no package registry", "in any file, in any case",
			"-- docs/a.md --\nGOPROXY=https://" + strings.ToUpper(registryHosts[0]) + "\nexample.com\n-- x.svg --\n" + registryHosts[5] + "\n",
			[]string{"docs/a.md:1: names the package registry", "x.svg:1: names the package registry"}},
		{"nothing is put off", "in code and configuration, not in prose or templates", put(`
-- exchange/a.go --
package exchange
// D!: later
-- workflows/a.yml --
on: push # F!
-- Makefile --
# X!
-- .ci/run --
mktemp /tmp/X!X!.yml # D!
-- exchange/b.go --
package exchange // mktemp X!X!, TODOS, mastodon
-- docs/a.md --
a D! list
`), []string{".ci/run:1", "Makefile:1", "exchange/a.go:2", "workflows/a.yml:1"}},
	}
}
