package runnersim_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// goImage is shared by the tests here. The first call on a machine compiles the
// standard library.
var goImage = sync.OnceValues(func() (string, error) { return runnersim.GoImage(context.Background(), root) })

func build(t *testing.T, i runnersim.Image) string {
	t.Helper()
	needs.Working(t, "docker", "version")
	base, err := goImage()
	if err != nil {
		t.Fatal(err)
	}
	i.Dir, i.Args = root, map[string]string{"GO_IMAGE": base}
	if i.Target != "exchange" {
		i.Args["SKIP_EXCHANGE"] = "true"
	}
	id, err := runnersim.BuildImage(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// contents lists every file, link and directory of an image, and the bytes of its files.
func contents(t *testing.T, image string) (names []string, size int64) {
	t.Helper()
	saved, err := exec.Command("docker", "save", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	each(t, saved, func(h *tar.Header, r io.Reader) {
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	})
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("the manifest of %s: %v", image, err)
	}
	for _, layer := range manifest[0].Layers {
		each(t, files[layer], func(h *tar.Header, _ io.Reader) {
			names = append(names, strings.TrimSuffix(h.Name, "/"))
			size += h.Size
		})
	}
	slices.Sort(names)
	return slices.Compact(names), size
}

func each(t *testing.T, archive []byte, do func(*tar.Header, io.Reader)) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		do(h, r)
	}
}

func TestTheActionsImageIsSmallAndHoldsNothingElse(t *testing.T) {
	t.Parallel()
	names, size := contents(t, build(t, runnersim.Image{Tag: "stepkey-action:test"}))
	want := []string{"etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "main", "post", "stepkey"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if t.Logf("the action's image holds %d bytes", size); size >= 8_000_000 {
		t.Errorf("the action's image holds %d bytes, want fewer than 8,000,000", size)
	}
}

func TestTheExchangesImageRunsAsNobodyAndHoldsNothingElse(t *testing.T) {
	t.Parallel()
	id := build(t, runnersim.Image{Tag: "stepkey-exchange:test", Target: "exchange"})
	names, _ := contents(t, id)
	want := []string{"data", "etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "stepkey-exchange"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	out, err := exec.Command("docker", "run", "--rm", "--network", "none", id, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "stepkey-exchange ") {
		t.Errorf("version says %q, %v", out, err)
	}
	user, err := exec.Command("docker", "image", "inspect", "-f", "{{.Config.User}}", id).Output()
	if err != nil || strings.TrimSpace(string(user)) != "65532:65532" {
		t.Errorf("it runs as %q, %v", user, err)
	}
	// The volume can be written to by that user: the key file lands there.
	if out, err := exec.Command("docker", "run", "--rm", "--network", "none", id, "keys", "create", "stepkey.keys").CombinedOutput(); err != nil {
		t.Errorf("making a key file in the volume: %v\n%s", err, out)
	}
}

func TestARealActionWithoutThePermissionSaysWhatIsMissingAndPostIsQuiet(t *testing.T) {
	t.Parallel()
	needs.Working(t, "docker", "version")
	base, err := goImage()
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, runnersim.Options{
		Mode: runnersim.Docker, Dir: t.TempDir(), Actions: map[string]string{"stepkey/stepkey@v1": root},
		BuildArgs: map[string]string{"GO_IMAGE": base, "SKIP_EXCHANGE": "true"},
	}, runnersim.Job{Workflow: []byte(workflowHead + `
      - id: key
        uses: stepkey/stepkey@v1
        with: {exchange: "https://exchange.example.com", task: publish-release}
`)})
	main, post := step(t, r, "key", runnersim.Main), step(t, r, "key", runnersim.Post)
	if main.Conclusion != runnersim.Failure || !strings.Contains(main.Log, "id-token: write") {
		t.Errorf("main is %s:\n%s", main.Conclusion, main.Log)
	}
	if post.Conclusion != runnersim.Success {
		t.Errorf("post is %s:\n%s", post.Conclusion, post.Log)
	}
}
