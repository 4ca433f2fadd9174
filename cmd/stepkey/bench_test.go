package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart measures the program as a job sees it, from start to exit. The
// floor is `stepkey version`: a process that does nothing. What post takes above
// it is the revocation: one HTTP call on loopback.
func BenchmarkStart(b *testing.B) {
	binary, size := buildStepkey(b)
	revoked := 0
	exchange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		revoked++
		_, _ = io.WriteString(w, standardRevocation)
	}))
	b.Cleanup(exchange.Close)

	for _, face := range []string{"version", "post"} {
		b.Run(face, func(b *testing.B) {
			before := revoked
			for b.Loop() {
				cmd := exec.Command(binary, face)
				cmd.Env = []string{"STATE_stage=asked", "STATE_lease_token=skl_handle", "STATE_lease_id=lease_01", "STATE_exchange=" + exchange.URL}
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			}
			if face == "post" && revoked-before < b.N {
				b.Fatalf("%d starts, %d revocations", b.N, revoked-before)
			}
			b.ReportMetric(float64(size)/(1<<20), "MiB")
		})
	}
}

// buildStepkey builds the program as it is shipped, and returns its size in bytes.
func buildStepkey(b *testing.B) (binary string, size int64) {
	b.Helper()
	binary = filepath.Join(b.TempDir(), "stepkey")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatal(err)
	}
	return binary, info.Size()
}

// maxBinary is what the shipped program may weigh, in bytes.
const maxBinary = 8_000_000

// BenchmarkExec measures `stepkey exec -- true` beside `true` itself: an ID token, a
// credential, and its revocation, each one HTTP call on loopback. max-RSS-MiB is what
// stepkey had in memory at most when its command ran: the rusage of a run would count
// this process too, from which it was forked.
func BenchmarkExec(b *testing.B) {
	binary, size := buildStepkey(b)
	if size > maxBinary {
		b.Errorf("the program has %d bytes, more than %d", size, maxBinary)
	}
	now := time.Now().UTC()
	grant := strings.NewReplacer("2026-11-23T15:05:00Z", now.Add(5*time.Minute).Format(time.RFC3339), "2026-11-23T16:00:30Z", now.Add(time.Hour).Format(time.RFC3339)).Replace(standardGrant)
	revoked := 0
	answers := map[string]string{"/idtoken": `{"value":"eyJh.e30.c2ln"}`, "/token": grant, "/revoke": standardRevocation}
	exchange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/revoke" {
			revoked++
		}
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	b.Cleanup(exchange.Close)
	environ := append(os.Environ(), "STEPKEY_EXCHANGE="+exchange.URL, "ACTIONS_ID_TOKEN_REQUEST_URL="+exchange.URL+"/idtoken", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token")

	for _, args := range [][]string{{"true"}, {binary, "version"}, {binary, "exec", "--id-token", "github", "--strict", "--task", "publish-release", "--", "true"}} {
		b.Run(strings.Join(args[min(1, len(args)-1):min(2, len(args))], ""), func(b *testing.B) {
			before := revoked
			for b.Loop() {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = environ
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
			}
			if len(args) < 3 {
				return
			}
			if revoked-before < b.N {
				b.Fatalf("%d runs, %d revocations", b.N, revoked-before)
			}
			peak := exec.Command(args[0], append(slices.Clone(args[1:len(args)-1]), "sh", "-c", "sed -n 's/^VmHWM: *//p' /proc/$PPID/status")...)
			peak.Env = environ
			out, err := peak.Output()
			if err != nil {
				b.Fatal(err)
			}
			var kib float64
			if _, err := fmt.Sscan(string(out), &kib); err != nil {
				b.Fatalf("%q: %v", out, err)
			}
			b.ReportMetric(kib/1024, "max-RSS-MiB")
		})
	}
}
