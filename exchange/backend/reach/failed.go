package reach

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Failed is a request that was not answered as it should be. A backend's own error has it
// inside, beside what its server says of itself.
type Failed struct {
	Status int   // 0: there was no answer
	Unsent bool  // no connection was had, so nothing was asked
	Own    bool  // for want of the exchange's own secret
	Cause  error // nil: the status and the server's words are all there is
}

// Unwrap is the cause.
func (f *Failed) Unwrap() error { return f.Cause }

// Words say it; who is the one that was asked, as "the API server". Where there is no
// cause, the server's own words may follow.
func (f *Failed) Words(who string) string {
	switch {
	case f.Own:
		return f.Cause.Error()
	case f.Status == 0 && f.Unsent:
		return fmt.Sprintf("%s could not be reached: %v", who, f.Cause)
	case f.Status == 0:
		return fmt.Sprintf("%s did not answer: %v", who, f.Cause)
	case f.Cause != nil:
		return fmt.Sprintf("%s answered %d, %v", who, f.Status, f.Cause)
	}
	return fmt.Sprintf("%s answered %d", who, f.Status)
}

// NothingDone: it is certain that the request changed nothing. A 5xx is no such answer,
// and 2xx is none that anybody can read.
func (f *Failed) NothingDone() bool {
	if f.Status == 0 {
		return f.Unsent
	}
	return f.Status >= 300 && f.Status < 500 && f.Status != http.StatusRequestTimeout
}

// Temporary: waiting may help.
func (f *Failed) Temporary() bool {
	return f.Status == 0 || f.Cause != nil || f.Status >= 500 || f.Status == http.StatusTooManyRequests || f.Status == http.StatusRequestTimeout
}

// ErrPlain: an address is http:// to another machine.
var ErrPlain = errors.New("want https, since secrets travel there; http is for this machine alone")

// CheckAddress: https:// and a host, and nothing after it. http:// is for this machine,
// where it is not plain, which lets it be another. like is one in errors.
func CheckAddress(address, like string, plain bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "", strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("want https:// and a host, nothing after it, as %s", like)
	case u.Scheme == "https", u.Scheme == "http" && (plain || u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	}
	return ErrPlain
}
