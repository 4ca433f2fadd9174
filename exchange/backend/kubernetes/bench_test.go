package kubernetes_test

import "testing"

// BenchmarkIssueAndRevoke is one lease after the other, each with all of its objects.
func BenchmarkIssueAndRevoke(b *testing.B) {
	for name, block := range every {
		b.Run(name, func(b *testing.B) {
			s := stage(b)
			for b.Loop() {
				o := s.order(block)
				issued, err := s.Issue(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Revoke(b.Context(), o.Lease, issued.Handle); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
