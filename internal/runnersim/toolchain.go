package runnersim

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// toolchainImage builds the standard library before the modules come in, so that
// neither a new go.sum nor a change of our own makes it compile again. Modules come from
// the file system, and go.sum is the only authority on their content, because the
// checksum database cannot be asked.
const toolchainImage = `FROM scratch
ADD toolchain/ /
ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root GOPATH=/go \
    GOPROXY=file:///modules,off GOSUMDB=off GOTOOLCHAIN=local
RUN CGO_ENABLED=0 go build -trimpath std
ADD modules/ /modules/
`

// GoImage makes, from this machine's own Go toolchain and module cache, an image that
// can stand for the Dockerfile's GO_IMAGE where no registry is reachable, and returns
// its tag. module is the directory of the go.mod whose modules the image carries; a
// build in it needs no network. What go.sum says is checked there as everywhere.
//
// The tag is a hash of toolchain, go.mod and go.sum: a second call finds the image.
func GoImage(ctx context.Context, module string) (string, error) {
	goroot, err := goCommand(ctx, module, "env", "GOROOT")
	if err != nil {
		return "", err
	}
	tag, err := toolchainTag(module, strings.TrimSpace(goroot))
	if err != nil {
		return "", err
	}
	if dockerQuiet("image", "inspect", tag) == nil {
		return tag, nil
	}
	modules, err := downloadModules(ctx, module)
	if err != nil {
		return "", err
	}
	if err := buildToolchain(ctx, tag, strings.TrimSpace(goroot), modules); err != nil {
		return "", fmt.Errorf("making the image %s of the Go toolchain: %w", tag, err)
	}
	return tag, nil
}

func toolchainTag(module, goroot string) (string, error) {
	hash := sha256.New()
	_, _ = io.WriteString(hash, toolchainImage+runtime.GOARCH) // a hash takes everything
	for _, path := range []string{filepath.Join(goroot, "VERSION"), filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")} {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("naming the toolchain's image: %w", err)
		}
		_, _ = hash.Write(text)
	}
	return fmt.Sprintf("stepkey-golang:%x", hash.Sum(nil)[:8]), nil
}

// moduleFiles are the files of one module in the module cache.
type moduleFiles struct{ Path, Version, Info, GoMod, Zip, Error string }

// downloadModules asks the go command for the files of every module in go.mod. It works
// on a copy, since the command may write to go.sum.
func downloadModules(ctx context.Context, module string) ([]moduleFiles, error) {
	dir, err := os.MkdirTemp("", "modules-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary directory
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	listing, err := goCommand(ctx, dir, "mod", "download", "-json")
	if err != nil {
		return nil, err
	}
	var all []moduleFiles
	for decoder := json.NewDecoder(strings.NewReader(listing)); ; {
		var m moduleFiles
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the list of modules: %w", err)
		}
		if m.Error != "" {
			return nil, fmt.Errorf("module %s@%s: %s", m.Path, m.Version, m.Error)
		}
		all = append(all, m)
	}
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// buildToolchain streams the context to docker build, which keeps every layer that has
// not changed.
func buildToolchain(ctx context.Context, tag, goroot string, modules []moduleFiles) error {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(packToolchain(ctx, writer, goroot, modules)) }()
	cmd := exec.CommandContext(ctx, "docker", "build", "-q", "--force-rm", "-t", tag, "-")
	cmd.Stdin = reader
	out, err := cmd.CombinedOutput()
	_ = reader.CloseWithError(errors.New("docker build has ended")) // so that the packer ends too
	if err != nil {
		return fmt.Errorf("docker build: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func packToolchain(ctx context.Context, w io.Writer, goroot string, modules []moduleFiles) error {
	pack := packer{w: tar.NewWriter(w), packed: map[string]bool{}}
	if err := pack.text("Dockerfile", toolchainImage); err != nil {
		return err
	}
	if err := pack.w.WriteHeader(&tar.Header{Name: "toolchain/tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return err
	}
	if err := pack.goroot(goroot); err != nil {
		return err
	}
	for _, program := range []string{"sh", "mkdir", "ln"} {
		if err := pack.program(ctx, program); err != nil {
			return err
		}
	}
	const roots = "/etc/ssl/certs/ca-certificates.crt"
	if err := pack.file(roots, "toolchain"+roots); err != nil {
		return err
	}
	if err := pack.modules(modules); err != nil {
		return err
	}
	return pack.w.Close()
}

type packer struct {
	w      *tar.Writer
	packed map[string]bool // programs share libraries
}

func (p packer) text(name, content string) error {
	if err := p.w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := io.WriteString(p.w, content)
	return err
}

func (p packer) file(from, to string) error {
	if p.packed[to] {
		return nil
	}
	p.packed[to] = true
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: to, Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm()), Size: info.Size()}
	if err := p.w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(p.w, f)
	return err
}

// goroot packs what it takes to build: the go command, its tools and the standard
// library, without the tests and without the tools' own source.
func (p packer) goroot(root string) error {
	leaveOut := []string{"api", "doc", "lib", "misc", "test", "src/cmd"}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(leaveOut, inside) || entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, "_test.go") || !entry.Type().IsRegular() {
			return nil
		}
		return p.file(path, "toolchain/usr/local/go/"+inside)
	})
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// program packs one of this machine's programs and the libraries that ldd lists for it.
func (p packer) program(ctx context.Context, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := p.file(path, "toolchain/bin/"+name); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", path, err)
	}
	for _, match := range library.FindAllSubmatch(out, -1) {
		if err := p.file(string(match[1]), "toolchain"+string(match[1])); err != nil {
			return err
		}
	}
	return nil
}

// modules lays the module files out as a module proxy in the file system.
func (p packer) modules(all []moduleFiles) error {
	const marker = "/cache/download/"
	for _, m := range all {
		for _, path := range []string{m.Info, m.GoMod, m.Zip} {
			_, inside, found := strings.Cut(path, marker)
			if !found {
				return fmt.Errorf("module %s@%s: its files are not in a module cache", m.Path, m.Version)
			}
			if err := p.file(path, "modules/"+inside); err != nil {
				return err
			}
		}
	}
	return nil
}
