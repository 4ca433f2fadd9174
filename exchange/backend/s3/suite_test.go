package s3_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/internal/secret"
)

var hostile = map[string]string{
	"no bucket":               "prefix: widget/\nactions: [read]",
	"no prefix":               "bucket: backups\nactions: [read]",
	"an empty prefix":         "bucket: backups\nprefix: \"\"\nactions: [read]",
	"no action":               "bucket: backups\nprefix: widget/\nactions: []",
	"every action":            "bucket: backups\nprefix: widget/\nactions: [\"*\"]",
	"an action of S3's":       "bucket: backups\nprefix: widget/\nactions: [\"s3:PutBucketPolicy\"]",
	"an action twice":         "bucket: backups\nprefix: widget/\nactions: [read, read]",
	"a bucket not listed":     "bucket: secrets\nprefix: widget/\nactions: [read]",
	"every bucket":            "bucket: \"*\"\nprefix: widget/\nactions: [read]",
	"a bucket and a way out":  "bucket: backups/../secrets\nprefix: widget/\nactions: [read]",
	"a pattern":               "bucket: backups\nprefix: \"*/\"\nactions: [read]",
	"one character of any":    "bucket: backups\nprefix: widge?/\nactions: [read]",
	"a policy's variable":     "bucket: backups\nprefix: \"${aws:username}/\"\nactions: [read]",
	"a quote":                 "bucket: backups\nprefix: 'widget\"/'\nactions: [read]",
	"no end":                  "bucket: backups\nprefix: widget\nactions: [read]",
	"from the root":           "bucket: backups\nprefix: /widget/\nactions: [read]",
	"two slashes":             "bucket: backups\nprefix: widget//nightly/\nactions: [read]",
	"a way up":                "bucket: backups\nprefix: widget/../\nactions: [read]",
	"a very long prefix":      "bucket: backups\nprefix: " + strings.Repeat("a", 600) + "/\nactions: [read]",
	"a line's end":            "bucket: backups\nprefix: \"widget/\\n\"\nactions: [read]",
	"an unknown key":          "bucket: backups\nprefix: widget/\nactions: [read]\nrole: admin",
	"a bucket that is a list": "bucket: [backups]\nprefix: widget/\nactions: [read]",
}

func TestSessionsPassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backendtest.World {
			s := startStore(t)
			return backendtest.World{
				Backend: s.Backend, Now: time.Now, Live: s.live, Dies: dies, Secrets: []string{s.Password},
				Use: func(ctx context.Context, values map[string]secret.String) error {
					return put(ctx, values, "/backups/widget/nightly/a")
				},
				Overstep: func(ctx context.Context, values map[string]secret.String) error {
					return put(ctx, values, "/backups/widget/monthly/a")
				},
				UseLess: func(ctx context.Context, values map[string]secret.String) error {
					return put(ctx, values, "/backups/widget/nightly/b")
				},
				Exceed: func(ctx context.Context, values map[string]secret.String) error {
					_, err := do(ctx, values, http.MethodGet, "/backups/widget/nightly/b", "")
					return err
				},
				LoseReply: s.wire.loseNext,
				LoseEnd: func() func() bool {
					s.wire.loseNext()
					return s.wire.lost
				},
				Down: func() {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				},
				Up: func() {
					if err := s.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
				},
			}
		},
		Good:     "bucket: backups\nprefix: widget/nightly/\nactions: [read, write]",
		Narrower: "bucket: backups\nprefix: widget/nightly/\nactions: [write]",
		Wider:    "bucket: backups\nprefix: widget/\nactions: [read, write]",
		Says: backendtest.Phrases{
			Good:     []string{"read", "write", "below widget/", "below widget/nightly/"},
			Narrower: []string{"write", "below widget/", "below widget/nightly/"},
			Wider:    []string{"read", "write", "below widget/"},
		},
		Hostile:   hostile,
		Overtime:  6 * time.Minute, // a session lives 15 minutes at least, and orders are of ten
		Nameless:  "after a restart MinIO knows a session's name only once somebody has used the session",
		Unproven:  "whoever tries a session on MinIO holds it, and Revoke has tried it already",
		NeverHeld: "each request is signed",
	})
}

func (w *wire) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.lose
}

// dies reads a session's token, which is a JWT of MinIO's.
func dies(values map[string]secret.String) (time.Time, error) {
	return backendtest.DiesAsSaid(values["session_token"])
}
