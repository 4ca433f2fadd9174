package s3_test

import (
	"context"
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
				Backend: s.Backend, Now: time.Now, Live: s.live,
				Use: func(ctx context.Context, values map[string]secret.String) error {
					return put(ctx, values, "/backups/widget/nightly/a")
				},
				Overstep: func(ctx context.Context, values map[string]secret.String) error {
					return put(ctx, values, "/backups/widget/monthly/a")
				},
				LoseReply: s.wire.loseNext,
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
		Hostile:  hostile,
	})
}
