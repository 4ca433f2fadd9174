package githubapp

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // git names a blob by SHA-1
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

const taskFolderPath = ".github/stepkey"

// taskFolder is what TaskFiles has of one repository: its own token, what was read with
// it, and what came of asking last.
type taskFolder struct {
	app         *App
	owners      []int64
	owner, name string // as they were asked for first
	doing       string
	used        time.Time // guarded by TaskFiles

	turn chan struct{} // holds one element while somebody uses what is below

	token   *repositoryToken
	made    time.Time   // when the token was that was used last
	settled time.Time   // when the token was that all was read with last
	known   *TaskFolder // nil: nothing that may be used
	checked time.Time   // when GitHub was asked last that said what known is
	fault   error       // what came of asking last, where that was no answer
	next    time.Time   // not to be asked again before
	naming  tagged[named]
	listing tagged[[]entry]
	blobs   map[string][]byte // files by the name that git has for their content
}

// named is who has the name of a repository.
type named struct {
	ID       int64  `json:"id"`
	FullName string `json:"full_name"`
}

// entry is one of a folder's ("Get repository content").
type entry struct {
	Type string `json:"type"`
	Name string `json:"name"`
	Size int64  `json:"size"`
	SHA  string `json:"sha"`
}

func newTaskFolder(t *TaskFiles, owner, name string) *taskFolder {
	f := &taskFolder{
		app: t.app, owners: t.owners, owner: owner, name: name, turn: make(chan struct{}, 1),
		doing: fmt.Sprintf("reading the task files of %s/%s", owner, name),
	}
	f.token = t.app.repositoryToken(
		TokenRequest{Repositories: []string{name}, Permissions: map[string]string{"contents": "read"}},
		func(ctx context.Context) (Installation, error) { return t.app.InstallationNamed(ctx, owner, name) },
	)
	f.token.share = &t.share
	return f
}

// now returns what is known, or asks first. The caller has the turn.
func (f *taskFolder) now(ctx context.Context) (*TaskFolder, error) {
	asked := f.app.now()
	fresh := f.known != nil && asked.Before(f.checked.Add(tasksFresh)) && !asked.Before(f.checked)
	if !fresh && !asked.Before(f.next) {
		// The one who asked may go away; those who wait have use for the answer.
		bounded, done := context.WithTimeout(context.WithoutCancel(ctx), tasksTake)
		f.ask(bounded, asked)
		done()
	}
	if age := f.app.now().Sub(f.checked); f.known == nil || age < 0 || age >= tasksStale {
		return nil, f.fault
	}
	return f.known, nil
}

// ask brings what is known up to date.
func (f *taskFolder) ask(ctx context.Context, began time.Time) {
	var read *TaskFolder
	var err error
	for range f.rounds() {
		if read, err = f.read(ctx); err == nil {
			f.known, f.checked, f.fault, f.next, f.settled = read, began, errOutdated, time.Time{}, f.made
			return
		}
		if !outdated(err) {
			break
		}
		f.replace(ctx, err)
	}
	f.fault = err
	if e := of(err); e != nil && !errors.Is(err, ErrNoTaskFiles) && (e.Temporary() || e.unsettled()) && !gone(e) {
		f.next = f.app.now().Add(tasksPause)
		if e.RetryAt.After(f.next) {
			f.next = e.RetryAt
		}
		return
	}
	f.forget(ctx)
	f.next = f.app.now().Add(tasksNone)
	if f.young() {
		f.next = f.app.now().Add(tasksPause)
	}
}

// young: GitHub may not know the token yet, or say 404 where it should not.
func (f *taskFolder) young() bool {
	return !f.made.Equal(f.settled) && f.app.now().Before(f.made.Add(tokenSettles))
}

// replace sees to another token for the next round. One that GitHub does not know is
// not revoked: that takes seconds, and it is dead.
func (f *taskFolder) replace(ctx context.Context, err error) {
	if !f.token.take(ctx) {
		return
	}
	defer f.token.give()
	if e := of(err); e != nil && e.Status == http.StatusUnauthorized {
		f.token.held.token = Token{}
		return
	}
	_ = f.token.drop(ctx)
}

// errOutdated is said when the clock went on while GitHub was asked.
var errOutdated = &Error{Doing: "reading task files", sent: true, cause: errors.New("it took too long")}

// rounds: a token, an installation and the repository itself may have been replaced
// since they were read; what was not read before is not outdated.
func (f *taskFolder) rounds() int {
	if f.known == nil {
		return 1
	}
	return 3
}

var errRecycled = errors.New("the name means another repository now")

// outdated: reading anew, from the installation on, may do better.
func outdated(err error) bool {
	e := of(err)
	return errors.Is(err, errRecycled) || e != nil && gone(e)
}

// gone: the answers to a token that is dead, and about what was removed or renamed.
func gone(e *Error) bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMovedPermanently, http.StatusUnprocessableEntity:
		return e.RetryAt.IsZero()
	}
	return false
}

// forget drops what is known, and the token.
func (f *taskFolder) forget(ctx context.Context) {
	f.known, f.blobs, f.naming, f.listing = nil, nil, tagged[named]{}, tagged[[]entry]{}
	_ = f.token.close(ctx) // it can read one repository and dies within the hour
}

// read reads whatever changed. The name is looked up before and after, because it is by
// name that GitHub gives out files, and a public repository's to any token: what was
// read must be of the repository that the token is for.
func (f *taskFolder) read(ctx context.Context) (*TaskFolder, error) {
	h, err := f.token.hold(ctx, f.doing)
	if err != nil {
		return nil, f.inWords(err)
	}
	f.made = h.made
	of := h.token.Repositories[0]
	if !slices.Contains(f.owners, of.OwnerID) {
		f.forget(ctx)
		return nil, fmt.Errorf("%w: %s belongs to owner %d, whose repositories are not listed under repository_tasks", ErrNoTaskFiles, clean(of.FullName), of.OwnerID)
	}
	if f.known != nil && f.known.RepositoryID != of.ID {
		f.forget(ctx)
		return nil, errRecycled
	}
	if err := f.still(ctx, of); err != nil {
		return nil, f.settling(err)
	}
	files, changed, err := f.files(ctx)
	if err != nil {
		return nil, err
	}
	if changed {
		if err := f.still(ctx, of); err != nil {
			return nil, err
		}
	}
	owner, name, _ := strings.Cut(f.naming.value.FullName, "/")
	return &TaskFolder{
		RepositoryID: of.ID, OwnerID: of.OwnerID, Owner: owner, Name: name, Files: files,
		Version: version(of, f.naming.value.FullName, files),
	}, nil
}

// inWords says what it means that no token could be had.
func (f *taskFolder) inWords(err error) error {
	if e := of(err); e != nil && (e.Status == http.StatusNotFound || e.Status == http.StatusUnprocessableEntity) {
		return fmt.Errorf("%w: there is no such repository, or the App is not installed there or may not read contents: %w", ErrNoTaskFiles, err)
	}
	return err
}

// settling: a repository that a token was just made for is there, whatever its first
// requests are told.
func (f *taskFolder) settling(err error) error {
	if e := of(err); e != nil && e.unsettled() && f.young() {
		return &Error{Doing: f.doing, sent: true, cause: fmt.Errorf("GitHub does not take a new token yet: %w", err)}
	}
	return err
}

// still sees to it that the name means the repository of the token.
func (f *taskFolder) still(ctx context.Context, is Repository) error {
	if _, err := get(ctx, f, f.path(""), &f.naming); err != nil {
		return err
	}
	if f.naming.value.ID != is.ID || !strings.EqualFold(f.naming.value.FullName, f.owner+"/"+f.name) {
		f.forget(ctx)
		return errRecycled
	}
	return nil
}

// path is below the repository, under the name that was asked for.
func (f *taskFolder) path(below string) string {
	return strings.TrimSuffix(fmt.Sprintf("repos/%s/%s/%s", f.owner, f.name, below), "/")
}

// get reads into known what changed of it.
func get[T any](ctx context.Context, f *taskFolder, path string, known *tagged[T]) (changed bool, err error) {
	return known.read(ctx, f.token, f.doing, func(string) string { return path })
}

// files lists the folder and reads those files that it does not have.
func (f *taskFolder) files(ctx context.Context) (map[string][]byte, bool, error) {
	changed, err := f.list(ctx)
	if err != nil {
		return nil, false, err
	}
	files, blobs := map[string][]byte{}, map[string][]byte{}
	size := 0
	for _, e := range f.listing.value {
		data, have := f.blobs[e.SHA]
		if !have {
			if data, err = f.file(ctx, e); err != nil {
				return nil, false, err
			}
		}
		if size += len(data); size > maxFolder {
			return nil, false, refuse(f.doing, "the files in %s have more than %d bytes together", taskFolderPath, maxFolder)
		}
		files[e.Name], blobs[e.SHA] = data, data
	}
	f.blobs = blobs
	return files, changed, nil
}

// list reads which task files there are. What is no task file is passed over, as it is
// in a folder on disk; a folder within is not, since tasks in it would be missing
// without a word.
func (f *taskFolder) list(ctx context.Context) (bool, error) {
	known := tagged[json.RawMessage]{etag: f.listing.etag}
	changed, err := get(ctx, f, f.path("contents/"+taskFolderPath), &known)
	if e := of(err); e != nil && e.Status == http.StatusNotFound {
		return false, fmt.Errorf("%w: %s/%s has no folder %s on its default branch", ErrNoTaskFiles, f.owner, f.name, taskFolderPath)
	}
	if err != nil || !changed {
		return false, err
	}
	var all []entry
	if !bytes.HasPrefix(bytes.TrimSpace(known.value), []byte("[")) {
		return false, refuse(f.doing, "%s is no folder", taskFolderPath)
	}
	if json.Unmarshal(known.value, &all) != nil {
		return false, &Error{Doing: f.doing, Status: http.StatusOK, Message: "the answer could not be read"}
	}
	var tasks []entry
	for _, e := range all {
		switch {
		case e.Type == "dir" && !strings.HasPrefix(e.Name, "."):
			return false, refuse(f.doing, "task files lie side by side; %s among them is a folder", clean(e.Name))
		case !isTaskFile(e.Name):
		case e.Type != "file":
			return false, refuse(f.doing, "%s is a %s and no file", clean(e.Name), clean(e.Type))
		case e.Size > maxTaskFile:
			return false, refuse(f.doing, "%s has %d bytes; at most %d are read", clean(e.Name), e.Size, maxTaskFile)
		default:
			tasks = append(tasks, e)
		}
	}
	if len(tasks) > maxTaskFiles {
		return false, refuse(f.doing, "there are %d task files; at most %d are read", len(tasks), maxTaskFiles)
	}
	f.listing = tagged[[]entry]{known.etag, tasks}
	return true, nil
}

// isTaskFile is the rule of a folder on disk: see exchange/policy.
func isTaskFile(name string) bool {
	kind := strings.ToLower(path.Ext(name))
	return !strings.HasPrefix(name, ".") && (kind == ".yaml" || kind == ".yml") && !strings.HasSuffix(name, ".test.yaml")
}

// file reads one file, which must be the one that was listed: between the two requests
// the branch may have moved on.
func (f *taskFolder) file(ctx context.Context, e entry) ([]byte, error) {
	var answer tagged[contentAnswer]
	if _, err := get(ctx, f, f.path("contents/"+taskFolderPath+"/"+url.PathEscape(e.Name)), &answer); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(answer.value.Content) // it skips line ends
	if err != nil || answer.value.Encoding != "base64" || blobName(data) != e.SHA {
		f.listing = tagged[[]entry]{}
		return nil, &Error{Doing: f.doing, Status: http.StatusOK, Message: "the files changed while they were read"}
	}
	return data, nil
}

// blobName is how git names a file's content.
func blobName(data []byte) string {
	h := sha1.New() //nolint:gosec // as above
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func version(of Repository, fullName string, files map[string][]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %s\n", of.ID, of.OwnerID, fullName)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(files[name]))
	}
	return hex.EncodeToString(h.Sum(nil))
}
