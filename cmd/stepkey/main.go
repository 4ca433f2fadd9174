// Command stepkey is the step side: what runs inside a workflow's job.
//
// It is one small static program with several faces. The action's container
// starts it as "main" when the step begins and as "post" when the job ends (the
// runner passes the same arguments to both, so the name it is started by tells
// them apart); by hand the face is the first argument:
//
//	stepkey main      get the credential of one task
//	stepkey post      give it back
//	stepkey exec      run a command that holds a credential, and give it back after
//	stepkey --help    tells of the others
//
// Nothing in it knows where GitHub lives: the ID token's issuer is whatever
// ACTIONS_ID_TOKEN_REQUEST_URL names, so GitHub Enterprise Server and data
// residency work alike. Proxies (HTTPS_PROXY, NO_PROXY) and private certificate
// authorities (SSL_CERT_FILE, SSL_CERT_DIR) are honoured as Go's standard library
// does by default. It depends on no package of the service but its client.
package main

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args, &step{
		runner: newRunner(os.Getenv, os.Stdout),
		http:   &http.Client{}, now: time.Now, waits: standardWaits(), inMemory: inMemory,
	}, os.Stderr))
}

// run chooses the face, by the program's name or else its first argument.
func run(args []string, s *step, stderr io.Writer) int {
	face := filepath.Base(args[0])
	if face != "main" && face != "post" && len(args) > 1 {
		face = args[1]
	}
	switch face {
	case "main":
		// Cancelling a job sends SIGINT, then SIGTERM 7.5 s later, and kills 2.5 s
		// after that (actions/runner): the first one starts the way out.
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return s.actionMain(ctx)
	case "post":
		// Cleaning up is what a cancelled job still has to do: no signal stops it.
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		s.actionPost(context.Background())
		return 0
	}
	return s.command(context.Background(), args[1:], os.Stdout, stderr)
}

// version is the module's, or devel for a build that knows none.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(strings.Trim(info.Main.Version, "()"), "devel") // "(devel)" would be a comment in User-Agent
	}
	return "devel"
}
