package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// revokePath is MinIO's own, for accounts that it keeps itself.
const revokePath = "/minio/admin/v3/revoke-tokens/builtin"

// Revoke ends a session on MinIO with that session, on every node, and then tries whether
// each refuses it.
//
// The exchange's own account could end it by the lease's name, too. But MinIO looks among
// the sessions that it has in memory, and after a restart has only those that somebody
// has used since; it then says that it is done, and the session lives. A session that
// asks for its own end is in memory for that alone.
//
// Without a handle, the name is all there is, and so the answer is ErrLost: nobody holds
// such a session, and it expires. On AWS sessions only expire, which is ErrLost as well;
// but one of MinIO's lives on there while the configuration names another server.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, sealed secret.String) error {
	if b.limits.Expires {
		if h, held := opened(sealed); held {
			return fmt.Errorf("revoking the session of lease %s: it was made on %s, and the configuration is now of kind %s; "+
				"configure the former until its leases are over", lease, reach.OneLine(h.Endpoint, maxMessage), b.kind)
		}
		return fmt.Errorf("revoking the session of lease %s: a server of kind %s cannot; it expires: %w", lease, b.kind, backend.ErrLost)
	}
	if b.secretKey == nil || !leaseForm.MatchString(string(lease)) {
		return nil // Issue makes none for such an id
	}
	err := b.revoke(ctx, lease, sealed)
	if err != nil {
		return fmt.Errorf("revoking the session of lease %s: %w", lease, classify(err, false))
	}
	return nil
}

func (b *Backend) revoke(ctx context.Context, lease backend.LeaseID, sealed secret.String) error {
	h, held := opened(sealed)
	if !held {
		return b.revokeByName(ctx, lease)
	}
	if h.Endpoint != b.endpoint {
		return fmt.Errorf("it was made on %s, and the configuration now names %s; configure the former until its leases are over", reach.OneLine(h.Endpoint, maxMessage), b.endpoint)
	}
	session := aws.Credentials{AccessKeyID: h.Access, SecretAccessKey: h.Secret, SessionToken: h.Token}
	for range 2 { // the second time to see that it is refused
		taken, err := b.everywhere(ctx, session, "")
		if err != nil || !taken {
			return err
		}
	}
	return errors.New("the server says that the session is ended, and takes it still")
}

// everywhere sends one request to each node, all at once, so that one that is down keeps the
// session alive on no other: a node that has it in memory takes it until it is told itself.
// taken: one of them took the key.
func (b *Backend) everywhere(ctx context.Context, key aws.Credentials, query string) (taken bool, err error) {
	answers := make([]error, len(b.nodes))
	var all sync.WaitGroup
	for i, node := range b.nodes {
		all.Go(func() { _, answers[i] = b.call(ctx, key, target{"s3", node + revokePath + query}, nil) })
	}
	all.Wait()
	for i, answer := range answers {
		switch {
		case answer == nil:
			taken = true
		case unknown(answer):
		case len(b.nodes) > 1:
			err = errors.Join(err, fmt.Errorf("%s: %w", b.nodes[i], answer))
		default:
			err = answer
		}
	}
	return taken, err
}

// opened is the session in a handle, where there is one.
func opened(sealed secret.String) (h handle, held bool) {
	return h, json.Unmarshal([]byte(sealed.Reveal()), &h) == nil && h.Access != ""
}

// unknown: the server has no such key any more. By its code alone it may only be turned off,
// with its account, and would live again with that: MinIO has one code for both.
func unknown(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.Status == http.StatusForbidden && f.code == "InvalidAccessKeyId" && strings.Contains(f.said, noSuchKey)
}

func (b *Backend) revokeByName(ctx context.Context, lease backend.LeaseID) error {
	own, err := b.own()
	if err != nil {
		return err
	}
	query := url.Values{"user": {b.accessKey}, "tokenRevokeType": {string(lease)}}
	taken, err := b.everywhere(ctx, own, "?"+query.Encode())
	if err != nil {
		return err
	}
	if !taken {
		return &failed{Failed: reach.Failed{Status: http.StatusForbidden}, code: "InvalidAccessKeyId"} // of the exchange's own key
	}
	return fmt.Errorf("the server's answer with the session was lost, and nobody holds it; the server was told to end it by its name, "+
		"which after a restart of its own it may not know: %w", backend.ErrLost)
}
