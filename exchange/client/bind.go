package client

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
)

// BindingRequestV1 is the one way to bind a subject token to a request, by the name
// that stands in metadata and begins what is hashed. Another set of parts, or another
// order, needs another name.
const BindingRequestV1 = "stepkey-bound-request-v1"

// boundPath stands between the exchange's audience and the binding, so that whoever
// reads the token sees whom it is for, and issuers that want a URL get one.
const boundPath = "/bound/"

// BoundAudience is the audience to ask the issuer for, so that the subject token is
// good for this one request by this one key: the exchange's own, "/bound/", and the
// Binding. The subject token itself is not looked at; r must be sent as it is
// afterwards. Each try of one request has the same audience.
//
// It fails without a key or a task, and where r.Narrow is not JSON.
func BoundAudience(audience string, r TokenRequest) (string, error) {
	if audience == "" || r.Task == "" || r.Key == nil {
		return "", errors.New("a bound audience needs the exchange's audience, a task and the holder's key")
	}
	details, err := r.details()
	if err != nil {
		return "", err
	}
	return audience + boundPath + Binding(r.Key.Thumbprint(), r.Task, details), nil
}

// Binding is what a bound subject token is bound to, in 43 characters of base64url:
// the SHA-256 of BindingRequestV1, the thumbprint of the key that proves (RFC 7638),
// the task's name as sent in scope, and authorization_details as sent, byte for byte,
// empty where none is sent. Each part has its length before it, as 8 bytes in
// big-endian order, so that no two requests are hashed as one.
//
// That is all that changes what POST /token gives. What is sent is taken as it is,
// since two programs would sooner or later make two canonical forms of one JSON text.
func Binding(thumbprint, task, details string) string {
	sum := sha256.New()
	for _, part := range []string{BindingRequestV1, thumbprint, task, details} {
		writePart(sum, part)
	}
	return segment(sum.Sum(nil))
}

func writePart(sum hash.Hash, part string) {
	_, _ = sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash takes everything
	_, _ = sum.Write([]byte(part))
}
