package s3_test

import "testing"

// One session and its end: two requests of the exchange's and one that sees that it is
// over.
func BenchmarkIssueAndRevoke(b *testing.B) {
	s := startStore(b)
	for b.Loop() {
		o := order(b, s.Backend, "{bucket: backups, prefix: widget/, actions: [write]}")
		issued, err := s.Issue(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Revoke(b.Context(), o.Lease, issued.Handle); err != nil {
			b.Fatal(err)
		}
	}
}
