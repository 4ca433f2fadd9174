package lease

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What a restored store knows as live is asked for again; that much of it ended
// meanwhile is no harm, since ending is idempotent.
func TestARestoredStoreGoesOnFromWhereItWas(t *testing.T) {
	h := openAt(t, filepath.Join(t.TempDir(), "stepkey.db"))
	ended, _ := h.activate(t, "jti-1", "job-1")
	live, _ := h.activate(t, "jti-2", "job-2")
	saved := filepath.Join(t.TempDir(), "backup.db")
	if err := h.Backup(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(saved); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is %v, %v", info.Mode(), err)
	}
	held, _ := h.StartEnding(t.Context(), ended.ID, ByHolder)
	if _, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil {
		t.Fatal(err)
	}
	if err := h.Backup(t.Context(), saved); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an older backup: %v", err)
	}

	restored := &house{where: saved, keys: h.keys, at: start}
	restored.reopen(t)
	defer restored.Close()
	restored.wait(time.Hour)
	due, err := restored.Claim(t.Context(), "github", 8)
	if err != nil || len(due) != 2 {
		t.Fatalf("due in the restored store: %+v, %v", due, err)
	}
	for _, l := range due {
		held, err := restored.StartEnding(t.Context(), l.ID, ByDeadline)
		if err != nil || held.Handle.Reveal() != canary {
			t.Errorf("%s cannot be ended: %v %v", l.ID, err, held.Broken)
		}
	}
	if due[0].ID != ended.ID && due[1].ID != ended.ID || due[0].ID == live.ID && due[1].ID == live.ID {
		t.Errorf("due are %v", due)
	}
	if _, err := restored.Begin(t.Context(), Ask{Workload: workload("jti-1", "job-3"), Grant: grant()}, anHour); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("a subject token used before the backup: %v", err)
	}
}

func TestAPostgresStoreIsBackedUpByItsOwnMeans(t *testing.T) {
	h := openAt(t, pgdatabase(t))
	if err := h.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db")); !errors.Is(err, ErrOwnBackup) {
		t.Errorf("%v", err)
	}
}
