package main

import (
	"debug/elf"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// GitHub lives elsewhere for those who run it themselves: where, a job's variables say.
func TestNothingInTheProgramKnowsWhereGitHubLives(t *testing.T) {
	looked := 0
	for _, pattern := range []string{"*.go", "../../exchange/client/*.go", "../../internal/secret/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if _, imported := n.(*ast.ImportSpec); imported {
					return false
				}
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					looked++
					for _, host := range []string{"github.com", "githubusercontent", "ghe.com", "ghcr.io"} {
						if strings.Contains(text.Value, host) {
							t.Errorf("%s: %s names %s", name, text.Value, host)
						}
					}
				}
				return true
			})
		}
	}
	if looked < 500 {
		t.Errorf("only %d texts were looked at", looked)
	}
}

// Runners are of two architectures, and their containers have no libraries.
func TestTheProgramIsOneStaticFileOnBothArchitectures(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "stepkey")
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			file, err := elf.Open(binary)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			libraries, err := file.ImportedLibraries()
			if file.Machine != machine || len(libraries) > 0 || file.Section(".interp") != nil {
				t.Errorf("it is for %v and needs %v, %v", file.Machine, libraries, err)
			}
			info, err := os.Stat(binary)
			if err != nil || info.Size() >= 8_000_000 {
				t.Errorf("it has %d bytes, want fewer than 8,000,000: %v", info.Size(), err)
			}
		})
	}
}
