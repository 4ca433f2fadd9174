package ssh_test

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
)

func (d *desk) order(block string) backend.Order {
	d.Helper()
	scope, err := d.Scope(node(d, block))
	if err != nil {
		d.Fatal(err)
	}
	return backend.Order{Lease: newLease(), Scope: scope, At: d.at, Until: d.at.Add(10 * time.Minute)}
}

const plain = "{principals: [deploy], hosts: [web1.example.com]}"

func TestACertificateSaysWhatWasOrderedAndNoMore(t *testing.T) {
	d := sit(t)
	o := d.order(`{principals: [deploy], hosts: [web1.example.com, "web2.example.com:2222"], force_command: /bin/x, source_address: ["203.0.113.0/24", "2001:db8::1"], extensions: [permit-pty]}`)
	made, err := d.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(made.Values["certificate"].Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	got := public.(*cryptossh.Certificate)
	serial, _ := ssh.SerialOf(o.Lease)
	want := &cryptossh.Certificate{
		CertType: cryptossh.UserCert, Serial: serial, KeyId: string(o.Lease), ValidPrincipals: []string{"deploy"},
		ValidAfter: uint64(d.at.Unix()) - 60, ValidBefore: uint64(d.at.Unix()) + 600,
		Permissions: cryptossh.Permissions{
			CriticalOptions: map[string]string{"force-command": "/bin/x", "source-address": "203.0.113.0/24,2001:db8::1/128"},
			Extensions:      map[string]string{"permit-pty": ""},
		},
		Key: got.Key, SignatureKey: got.SignatureKey, Nonce: got.Nonce, Signature: got.Signature, Reserved: got.Reserved,
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("key", func(k cryptossh.PublicKey) string { return string(k.Marshal()) })); diff != "" {
		t.Error(diff)
	}
	line := string(publicLine(d.ca))
	if known := made.Values["known_hosts"].Reveal(); known != "@cert-authority [web2.example.com]:2222 "+line+"web1.example.com "+line {
		t.Errorf("known_hosts:\n%s", known)
	}
	signer, err := cryptossh.ParsePrivateKey([]byte(made.Values["key"].Reveal()))
	if err != nil || string(signer.PublicKey().Marshal()) != string(got.Key.Marshal()) {
		t.Errorf("the key is not the certificate's: %v", err)
	}
	if dies := time.Unix(int64(got.ValidBefore), 0).Add(time.Minute); !made.DiesAt.Equal(dies) || !d.Terms(o).DiesAt.Equal(dies) {
		t.Errorf("it dies at %v, the terms say %v, want %v", made.DiesAt, d.Terms(o).DiesAt, dies)
	}
}

func TestNoCertificateOutlivesTheOperatorsLimit(t *testing.T) {
	d := sit(t)
	o := d.order(plain)
	o.Until = d.at.Add(20 * time.Hour)
	if got, want := d.Terms(o).DiesAt, d.at.Add(time.Hour+time.Minute).Truncate(time.Second); !got.Equal(want) {
		t.Errorf("it dies at %v, want %v", got, want)
	}
	if sensible, longest := d.Lifetimes(); longest != time.Hour || sensible <= 0 || sensible >= longest {
		t.Errorf("the linter is told %v, %v", sensible, longest)
	}
}

// An authority of each kind that hosts take signs in a way that they take.
func TestOrdersThatCannotBeFilledMakeNothing(t *testing.T) {
	d := sit(t)
	for name, c := range map[string]struct {
		spoil func(*backend.Order)
		by    ssh.Options
		says  string
	}{
		"no authority":     {func(*backend.Order) {}, ssh.Options{}, "no key that signs"},
		"a lease by hand":  {func(o *backend.Order) { o.Lease = "lease_1" }, ssh.Options{Authorities: []cryptossh.Signer{d.ca}}, "no serial number"},
		"its time is over": {func(o *backend.Order) { o.Until = d.at }, ssh.Options{Authorities: []cryptossh.Signer{d.ca}}, "time is over"},
		"no randomness":    {func(*backend.Order) {}, ssh.Options{Authorities: []cryptossh.Signer{d.ca}, Rand: iotest.ErrReader(errDown)}, errDown.Error()},
		"too little of it": {func(*backend.Order) {}, ssh.Options{Authorities: []cryptossh.Signer{d.ca}, Rand: strings.NewReader(strings.Repeat("r", 40))}, "signing"},
	} {
		t.Run(name, func(t *testing.T) {
			o := d.order(plain)
			c.spoil(&o)
			c.by.Now = d.now
			made, err := ssh.New(c.by).Issue(t.Context(), o)
			if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), c.says) || len(made.Values) > 0 {
				t.Errorf("%v, %v", made, err)
			}
		})
	}
}
