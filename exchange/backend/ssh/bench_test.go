package ssh_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/secret"
)

// BenchmarkIssue is a certificate, beside the floor: what making a key pair and signing a
// kilobyte costs by itself.
func BenchmarkIssue(b *testing.B) {
	b.Run("certificate", func(b *testing.B) {
		d := sit(b)
		o := d.order(plain)
		for b.Loop() {
			if _, err := d.Issue(b.Context(), o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		text := make([]byte, 1024)
		for b.Loop() {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			ed25519.Sign(key, text)
		}
	})
}

// BenchmarkRevoke is one revocation beside so many that are on the list already, with the
// list served only and with it in a file, which is synced. The floor is that list, made
// before, put into a file as durably by itself.
func BenchmarkRevoke(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000} {
		for _, filed := range []bool{false, true} {
			b.Run(fmt.Sprintf("beside=%d/file=%t", n, filed), func(b *testing.B) {
				d := sit(b)
				for range n {
					d.ledger.end(newLease())
				}
				backend := d.Backend
				if !filed {
					backend = d.replica("")
				}
				for b.Loop() {
					lease := newLease()
					d.ledger.ended = append(d.ledger.ended[:n], lease) // the one before has died
					if err := backend.Revoke(b.Context(), lease, secret.String{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("beside=%d/floor", n), func(b *testing.B) {
			_, ca := newSigner(b)
			list := ssh.WriteKRL([]cryptossh.PublicKey{ca.PublicKey()}, someLeases(n+1), time.Now())
			dir := b.TempDir()
			for b.Loop() {
				if err := putDurably(dir, list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// putDurably replaces dir/krl, and does nothing beside.
func putDurably(dir string, list []byte) error {
	next, err := os.Create(dir + "/krl.new")
	if err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return errors.Join(err, next.Close())
	}
	_, err = next.Write(list)
	return errors.Join(err, next.Sync(), next.Close(), os.Rename(dir+"/krl.new", dir+"/krl"), folder.Sync(), folder.Close())
}

// BenchmarkKRL is the making of a list of 100,000.
func BenchmarkKRL(b *testing.B) {
	_, ca := newSigner(b)
	leases := someLeases(100_000)
	for b.Loop() {
		b.SetBytes(int64(len(ssh.WriteKRL([]cryptossh.PublicKey{ca.PublicKey()}, leases, time.Now()))))
	}
}
