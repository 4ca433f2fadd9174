package mysql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/mysql"
)

// What is no host is said at the start, and not by the first lease that looks for it.
func TestAHostIsANameOrAnAddressAlone(t *testing.T) {
	for host, taken := range map[string]bool{
		"db.example.com": true, "db_1": true, "10.0.0.1": true, "2001:db8::1": true, "::1": true, "fe80::1%eth0": true,
		"db.example.com:3306": false, "10.0.0.1:3306": false, "[::1]": false, "[::1]:3306": false, "db%eth0": false,
		"-db": false, "db/app": false, "mysql://db": false, "fe80::1%e\n": false, "fe80::1%e h": false, strings.Repeat("a", 254): false,
	} {
		for key, o := range map[string]mysql.Options{
			"host: ":         {Server: mysql.Server{Host: host}},
			"client: host: ": {Server: mysql.Server{Host: "db"}, Client: mysql.Client{Host: host}},
		} {
			o.Databases = []string{"app"}
			b, err := mysql.New(o)
			switch {
			case taken && err != nil:
				t.Errorf("%s%q: %v", key, host, err)
			case !taken && (err == nil || !strings.HasPrefix(err.Error(), key+"want a name or an address") || !strings.Contains(err.Error(), "its port as port")):
				t.Errorf("%s%q: %v", key, host, err)
			}
			if err == nil {
				b.Close()
			}
		}
	}
}

// A job's log shows where it goes and as whom. The password is in url, too.
func TestWhatHoldsThePasswordIsNotPublic(t *testing.T) {
	s := stage(t, choice{direct: true})
	id, made := s.issue(asMigrator)
	public := slices.Sorted(slices.Values(made.Public))
	if want := []string{"database", "host", "port", "ssl_mode", "username"}; !slices.Equal(public, want) {
		t.Errorf("public are %q, want %q", public, want)
	}
	password := made.Values["password"].Reveal()
	for name, value := range made.Values {
		if shown, holds := slices.Contains(public, name), strings.Contains(value.Reveal(), password); shown == holds {
			t.Errorf("%s: it is public: %v, and holds the password: %v", name, shown, holds)
		}
	}
	s.end(id)
}
