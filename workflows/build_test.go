package workflows_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// What the stories run is built once: the real binaries and the real images.

const root = ".."

// built is the directory of the binaries.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "workflows-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/stepkey", "./cmd/stepkey-exchange")
	build.Dir = root
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the binaries: %w\n%s", err, out)
	}
	return dir, nil
})

func binary(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var goImage = sync.OnceValues(func() (string, error) { return runnersim.GoImage(context.Background(), root) })

// toolchain is the image that the Dockerfile's builds start from.
func toolchain(t *testing.T) string {
	t.Helper()
	needs.Working(t, "docker", "version")
	image, err := goImage()
	if err != nil {
		t.Fatal(err)
	}
	return image
}

var exchangeImage = sync.OnceValues(func() (string, error) {
	base, err := goImage()
	if err != nil {
		return "", err
	}
	return runnersim.BuildImage(context.Background(), runnersim.Image{
		Dir: root, Target: "exchange", Tag: "stepkey-exchange:workflows", Args: map[string]string{"GO_IMAGE": base},
	})
})

var actionImage = sync.OnceValues(func() (string, error) {
	base, err := goImage()
	if err != nil {
		return "", err
	}
	return runnersim.BuildImage(context.Background(), runnersim.Image{
		Dir: root, Tag: "stepkey-action:workflows", Args: map[string]string{"GO_IMAGE": base, "SKIP_EXCHANGE": "true"},
	})
})

// builtAction is the real action with an image that is there already: jobs by the dozen
// need not each look whether it must be built.
func builtAction(t *testing.T) string {
	t.Helper()
	image, err := actionImage()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "action.yml"), []byte(read(t, filepath.Join(root, "action.yml"))))
	write(t, filepath.Join(dir, "Dockerfile"), []byte("FROM "+image+"\n"))
	return dir
}

var act = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "stepkey")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	return runnersim.BuildAct(context.Background(), filepath.Join(root, ".ci", "act"), cache)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}
