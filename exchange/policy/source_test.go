package policy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// pile is a folder that changes, a clock, and what is told.
type pile struct {
	mu     sync.Mutex
	files  fstest.MapFS
	fault  error
	at     time.Time
	reads  int
	said   strings.Builder
	gone   []string
	begun  []string
	folder *policy.Folder
}

var morning = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func pileOf(t *testing.T, names ...string) *pile {
	t.Helper()
	p := &pile{files: fstest.MapFS{}, at: morning}
	p.put(names...)
	p.open(t)
	return p
}

func (p *pile) open(t *testing.T) {
	t.Helper()
	var err error
	p.folder, err = policy.OpenFolder(p, check(), policy.FolderOptions{
		Now: p.now, Log: slog.New(slog.NewTextHandler(&p.said, nil)),
		Settled: func(_ context.Context, s *policy.Set) { p.begun = append(p.begun, strings.Join(tasksOf(s), "+")) },
		Gone:    func(_ context.Context, gone []string) { p.gone = append(p.gone, strings.Join(gone, "+")) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (p *pile) Open(name string) (fs.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return nil, p.fault
	}
	if name != "." {
		p.reads++
	}
	return maps.Clone(p.files).Open(name)
}

// Stat does not count as a reading.
func (p *pile) Stat(name string) (fs.FileInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fs.Stat(maps.Clone(p.files), name)
}

func (p *pile) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func taskNamed(name string, ttl time.Duration) []byte {
	text := string(taskWith(map[string][]string{"repository_id": {"1"}, "event_name": {"push"}}, ttl))
	return []byte(strings.Replace(text, "task: t\n", "task: "+name+"\n", 1))
}

func (p *pile) put(names ...string) {
	for _, name := range names {
		p.write(name+".yaml", taskNamed(name, time.Minute))
	}
}

func (p *pile) write(file string, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[file] = &fstest.MapFile{Data: data, ModTime: p.at}
}

func (p *pile) remove(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.files, name+".yaml")
	}
}

// look is the folder's next one, two seconds on.
func (p *pile) look(t *testing.T, times int) {
	t.Helper()
	for range times {
		p.mu.Lock()
		p.at = p.at.Add(2 * time.Second)
		p.mu.Unlock()
		p.folder.Look(t.Context())
	}
}

func tasksOf(s *policy.Set) (names []string) {
	for _, t := range s.Tasks() {
		names = append(names, t.Name)
	}
	return names
}

func (p *pile) has(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(tasksOf(p.folder.Set()), " "); got != want {
		t.Errorf("in force: %s; want: %s", got, want)
	}
}

func TestAChangeComesIntoForceWhenTwoLooksAgree(t *testing.T) {
	p := pileOf(t, "a")
	p.put("b")
	p.look(t, 1)
	p.has(t, "a")
	p.look(t, 1)
	p.has(t, "a b")
}

func TestAFolderThatIsBeingWrittenIsNotTakenUntilItStands(t *testing.T) {
	p := pileOf(t, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		p.remove(name)
		p.look(t, 1)
		p.put(name + "2")
		p.look(t, 1)
	}
	p.has(t, "a b c")
	if len(p.gone) != 0 || strings.Contains(p.said.String(), "ERROR") {
		t.Errorf("told %v, said %s", p.gone, p.said.String())
	}
	p.look(t, 1)
	p.has(t, "a2 b2 c2")
	if strings.Join(p.gone, ", ") != "a+b+c" {
		t.Errorf("told %v", p.gone)
	}
}

func TestABrokenFileKeepsTheOldSetAndIsSaidOnce(t *testing.T) {
	p := pileOf(t, "a", "b")
	p.put("c")
	p.write("b.yaml", []byte("nonsense"))
	p.look(t, 5)
	p.has(t, "a b")
	if n := strings.Count(p.said.String(), `level=ERROR`); n != 1 || !strings.Contains(p.said.String(), "file=b.yaml line=1") || !p.folder.Stale() {
		t.Errorf("said %d times, stale %v: %s", n, p.folder.Stale(), p.said.String())
	}
	p.write("b.yaml", []byte("other nonsense"))
	p.look(t, 5)
	if n := strings.Count(p.said.String(), `level=ERROR`); n != 2 {
		t.Errorf("after another change said %d times: %s", n, p.said.String())
	}
	p.put("b")
	p.look(t, 2)
	p.has(t, "a b c")
	if p.folder.Stale() || len(p.gone) != 0 {
		t.Errorf("stale %v, told %v", p.folder.Stale(), p.gone)
	}
}

func TestAFolderThatCannotBeReadKeepsTheOldSet(t *testing.T) {
	p := pileOf(t, "a")
	p.mu.Lock()
	p.fault = errors.New("stale file handle")
	p.mu.Unlock()
	p.look(t, 5)
	p.has(t, "a")
	if n := strings.Count(p.said.String(), `level=ERROR`); n != 1 || !strings.Contains(p.said.String(), "stale file handle") || !p.folder.Stale() {
		t.Errorf("said %d times: %s", n, p.said.String())
	}
	p.mu.Lock()
	p.fault = nil
	p.mu.Unlock()
	p.look(t, 2)
	if p.folder.Stale() || len(p.gone) != 0 {
		t.Errorf("when it is back: stale %v, told %v", p.folder.Stale(), p.gone)
	}
}

func TestAFolderThatIsBrokenAtTheStartIsAnError(t *testing.T) {
	p := &pile{files: fstest.MapFS{"a.yaml": {Data: []byte("nonsense")}}, at: morning}
	if _, err := policy.OpenFolder(p, check(), policy.FolderOptions{Now: p.now}); err == nil {
		t.Error("it was taken")
	}
}

func TestWhoAsksForAReloadIsNotKeptWaiting(t *testing.T) {
	p := pileOf(t, "a")
	p.put("b")
	p.folder.Reload(t.Context())
	p.has(t, "a b")
}

func TestFilesAreReadOnlyWhereSomethingMayHaveChanged(t *testing.T) {
	p := pileOf(t, "a", "b")
	p.look(t, 3) // their times are too young to be believed
	before := p.reads
	p.look(t, 20)
	if p.reads != before {
		t.Errorf("%d files were read in 40 s without a change", p.reads-before)
	}
	p.mu.Lock()
	old := p.files["b.yaml"]
	p.files["b.yaml"] = &fstest.MapFile{Data: taskNamed("b", 61*time.Second), ModTime: old.ModTime}
	p.mu.Unlock()
	if len(taskNamed("b", 61*time.Second)) != len(old.Data) {
		t.Fatal("the sizes differ, so this shows nothing")
	}
	p.look(t, 32)
	if got := p.folder.Set().Tasks()[1].TTL; got != 61*time.Second {
		t.Errorf("a change with the same size and time was not seen within a minute: ttl %s", got)
	}
}

func TestWhatWasThereAtTheStartIsToldOnceASecondLookAgrees(t *testing.T) {
	p := pileOf(t, "a")
	p.put("b") // the start saw half of it
	if p.look(t, 1); len(p.begun) != 0 {
		t.Errorf("told %v", p.begun)
	}
	p.look(t, 3)
	if strings.Join(p.begun, ", ") != "a+b" {
		t.Errorf("told %v", p.begun)
	}
	q := pileOf(t, "a")
	q.look(t, 3)
	if strings.Join(q.begun, ", ") != "a" {
		t.Errorf("told %v", q.begun)
	}
}

// A request that had the generation before in hand may write its lease down later.
func TestATaskThatIsGoneIsToldOfTwiceUnlessItIsBack(t *testing.T) {
	p := pileOf(t, "a", "b", "c")
	p.remove("b", "c")
	p.look(t, 2)
	p.put("c")
	p.look(t, 40)
	if strings.Join(p.gone, ", ") != "b+c, b" {
		t.Errorf("told %v", p.gone)
	}
}

func TestTheFolderIsLookedAtEveryTwoSecondsAndAtOnceWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pileOf(t, "a")
		now := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.folder.Run(ctx, now) })
		p.put("b")
		now <- struct{}{}
		synctest.Wait()
		p.has(t, "a b")
		p.put("c")
		<-time.After(5 * time.Second)
		synctest.Wait()
		p.has(t, "a b c")
		stop()
		running.Wait()
	})
}

// Two tasks always have the same lifetime on the disk, but not while it is written.
func TestAReloadUnderLoadFailsNobodyAndShowsNobodyHalf(t *testing.T) {
	p := pileOf(t, "left", "right")
	w := identity.Workload{Issuer: "github", Claims: identity.Claims{"repository_id": "1", "event_name": "push"}}
	var asked, changed atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() || asked.Load() < 20_000 {
				set := p.folder.Set()
				left, err1 := set.Authorize(w, policy.Asked{Task: "left"})
				right, err2 := set.Authorize(w, policy.Asked{Task: "right"})
				if err1 != nil || err2 != nil || left.TTL != right.TTL {
					t.Errorf("%v %v: %s and %s", err1, err2, left.TTL, right.TTL)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 100 {
		for _, name := range []string{"left", "right"} {
			p.write(name+".yaml", taskNamed(name, time.Minute+time.Duration(i)*time.Second))
			if i%2 == 0 {
				p.look(t, 1) // in the middle of the writing
			}
		}
		if i%10 == 0 {
			p.write("left.yaml", []byte("nonsense"))
			p.look(t, 2)
			continue
		}
		before := p.folder.Set()
		if p.look(t, 2); p.folder.Set() != before {
			changed.Add(1)
		}
	}
	stop.Store(true)
	all.Wait()
	if changed.Load() < 80 {
		t.Errorf("%d reloads, want about 90", changed.Load())
	}
	if !slices.Equal(tasksOf(p.folder.Set()), []string{"left", "right"}) {
		t.Error(fmt.Sprint(tasksOf(p.folder.Set())))
	}
}
