package runnersim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Image is one image to build from a directory.
type Image struct {
	Dir        string
	Dockerfile string // in Dir; "Dockerfile" if empty
	Target     string // the last stage if empty
	Tag        string
	Args       map[string]string // --build-arg
}

// BuildImage builds an image, tags it, and returns its id: the tag may be moved by the
// next build. Docker's layer cache makes a second build of the same content quick.
func BuildImage(ctx context.Context, i Image) (string, error) {
	line := []string{"build", "-q", "--force-rm", "-t", i.Tag, "-f", filepath.Join(i.Dir, or(i.Dockerfile, "Dockerfile"))}
	for _, name := range slices.Sorted(maps.Keys(i.Args)) {
		line = append(line, "--build-arg", name+"="+i.Args[name])
	}
	if i.Target != "" {
		line = append(line, "--target", i.Target)
	}
	cmd := exec.CommandContext(ctx, "docker", append(line, i.Dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	id, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building %s: %w\n%s%s", i.Tag, err, id, stderr.Bytes())
	}
	return strings.TrimSpace(string(id)), nil
}
