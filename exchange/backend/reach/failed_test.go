package reach_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// TestMain names a proxy before anything is sent: the library reads the environment once.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		_ = os.Setenv(name, "http://proxy.example.com:3128")
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		_ = os.Setenv(name, "")
	}
	os.Exit(m.Run())
}

// A proxy sees all of a request to http://, and of one to https:// where to.
func TestOnlyHTTPSGoesThroughAProxy(t *testing.T) {
	for address, want := range map[string]string{
		"https://minio.example.com:9000/": "http://proxy.example.com:3128", "http://minio.example.com:9000/": "", "http://10.0.0.1/": "",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		by, err := reach.Transport(nil).Proxy(req)
		if err != nil || (by == nil) != (want == "") || by != nil && by.String() != want {
			t.Errorf("%s goes through %v, want %q (%v)", address, by, want, err)
		}
	}
}

// What an answer proves, and whether waiting helps.
func TestWhatAFailureProves(t *testing.T) {
	cause := errors.New("a cause")
	for says, c := range map[string]struct {
		failed             reach.Failed
		nothing, temporary bool
	}{
		"a cause":                    {reach.Failed{Unsent: true, Own: true, Cause: cause}, true, true},
		"it could not be reached: a": {reach.Failed{Unsent: true, Cause: cause}, true, true},
		"it did not answer: a cause": {reach.Failed{Cause: cause}, false, true},
		"it answered 201, a cause":   {reach.Failed{Status: 201, Cause: cause}, false, true},
		"it answered 307":            {reach.Failed{Status: 307}, true, false},
		"it answered 403":            {reach.Failed{Status: 403}, true, false},
		"it answered 404, a cause":   {reach.Failed{Status: 404, Cause: cause}, true, true},
		"it answered 408":            {reach.Failed{Status: 408}, false, true},
		"it answered 429":            {reach.Failed{Status: 429}, true, true},
		"it answered 500":            {reach.Failed{Status: 500}, false, true},
		"it answered 503":            {reach.Failed{Status: 503}, false, true},
	} {
		f := c.failed
		if f.NothingDone() != c.nothing || f.Temporary() != c.temporary || errors.Is(f.Unwrap(), cause) != (f.Cause != nil) {
			t.Errorf("%s: nothing is done: %t; waiting helps: %t", says, f.NothingDone(), f.Temporary())
		}
		if got := f.Words("it"); !strings.HasPrefix(got, says) {
			t.Errorf("it says %s, want %s", got, says)
		}
	}
}

func TestAddressesAreHTTPSOrOfThisMachine(t *testing.T) {
	const like = "https://vault.example.com:8200"
	for address, want := range map[string]string{
		"https://vault.example.com": "", "https://vault.example.com:8200/": "", "http://127.0.0.1:8200": "", "http://[::1]": "", "http://localhost:1": "",
		"http://vault.example.com": "want https, since", "http://127.0.0.1.example.com": "want https, since", "ftp://vault.example.com": "want https, since",
		"vault.example.com:8200": "nothing after it, as " + like, "https://a@vault.example.com": "nothing after it", "https://vault.example.com/v1": "nothing after it",
		"https://vault.example.com?a": "nothing after it", "https://vault.example.com#a": "nothing after it", "https://": "nothing after it", "https://%": "nothing after it",
	} {
		err := reach.CheckAddress(address, like, false)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want …%s…", address, err, want)
		}
	}
	if err := reach.CheckAddress("http://minio.example.com:9000", like, true); err != nil {
		t.Errorf("http:// where it is allowed: %v", err)
	}
	if err := reach.CheckAddress("ftp://minio.example.com", like, true); !errors.Is(err, reach.ErrPlain) {
		t.Errorf("ftp:// is none: %v", err)
	}
}
