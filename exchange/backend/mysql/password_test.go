package mysql

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

// The digests are those of openssl passwd -5.
func TestSHACryptIsWhatOthersMakeOfAPassword(t *testing.T) {
	for _, c := range []struct{ password, salt, want string }{
		{"Hello world!", "saltstring", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		{"abcdefghijklmnopqrstuvwxyz234567", "abcdefgh", "RcMwreKTzHlIqO.wfYXzeIOlk0sRWh0cVPpAt1FctK9"},
		{"This is just a test", "toolongsaltstrin", "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"},
	} {
		if got := shaCrypt([]byte(c.password), []byte(c.salt)); got != c.want {
			t.Errorf("%q with %q is %s, want %s", c.password, c.salt, got, c.want)
		}
	}
}

func TestAPasswordIsNeverInWhatTheServerIsTold(t *testing.T) {
	random := bytes.NewReader(bytes.Repeat([]byte{1, 2, 3, 250}, 64))
	password, err := newPassword(random)
	if err != nil || len(password.Reveal()) != 32 {
		t.Fatalf("%d letters, %v", len(password.Reveal()), err)
	}
	for of, begins := range map[plugin]string{
		native:  "IDENTIFIED WITH mysql_native_password AS '*",
		edwards: "IDENTIFIED WITH ed25519 AS '",
		sha2:    "IDENTIFIED WITH caching_sha2_password AS 0x2441243030352",
	} {
		h, err := hash(of, password, random)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*about{{}, {mariaDB: true}} {
			clause := h.identified(s)
			if strings.Contains(clause, password.Reveal()) || !s.mariaDB && !strings.HasPrefix(clause, begins) {
				t.Errorf("%s", clause)
			}
		}
	}
	if got := nativeHash(secret.New("password")); got != "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19" {
		t.Errorf("the hash of %q is %s", "password", got)
	}
	if _, err := newPassword(bytes.NewReader(nil)); err == nil {
		t.Errorf("a password of nothing")
	}
}

func TestAServerIsAskedForNoPluginOfTheOther(t *testing.T) {
	maria, other := &about{mariaDB: true, version: "10.11"}, &about{version: "8.4"}
	for _, c := range []struct {
		wanted plugin
		on     *about
		want   plugin
		says   string
	}{
		{"", maria, native, ""}, {"", other, sha2, ""}, {edwards, maria, edwards, ""}, {native, other, native, ""},
		{sha2, maria, "", "which is MySQL's"}, {edwards, other, "", "which is MariaDB's"},
	} {
		got, err := pluginFor(c.wanted, c.on)
		if got != c.want || (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q on %s is %q, %v", c.wanted, c.on.version, got, err)
		}
	}
}
