package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkStart measures the program as a job sees it, from start to exit. The
// floor is `stepkey version`: a process that does nothing. What post takes above
// it is the revocation: one HTTP call on loopback.
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "stepkey")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatal(err)
	}
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
			b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
		})
	}
}
