package s3

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// actionNames are what tasks may name, sorted.
var actionNames = []string{"delete", "list", "read", "write"}

// calls are what S3 calls it. An upload in parts is given up with AbortMultipartUpload and
// asked about with ListMultipartUploadParts, both for what is written only.
var calls = map[string][]string{
	"delete": {"s3:DeleteObject"},
	"list":   {"s3:ListBucket"},
	"read":   {"s3:GetObject"},
	"write":  {"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"},
}

// scope is what a session can do. Immutable; actions are sorted and have nothing twice.
type scope struct {
	bucket  string
	prefix  string // ends with /
	actions []string
	expires bool // it cannot be revoked
	listed  bool // its list shows the names in all of the bucket
}

// Covers: of the same bucket, below the prefix, and no action more.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.bucket != o.bucket || s.expires != o.expires {
		return false
	}
	return strings.HasPrefix(o.prefix, s.prefix) &&
		!slices.ContainsFunc(o.actions, func(action string) bool { return !slices.Contains(s.actions, action) })
}

// String says the scope in words: "read and write in backups/widget/nightly/".
func (s *scope) String() string {
	last := len(s.actions) - 1
	words := s.actions[last]
	if last > 0 {
		words = strings.Join(s.actions[:last], ", ") + " and " + words
	}
	words += fmt.Sprintf(" in the bucket %s, below %s", s.bucket, s.prefix)
	switch {
	case s.listed && s.expires:
		words += "; with list, the server may show it the names in all of the bucket"
	case s.listed:
		words += "; with list, MinIO shows it the names in all of the bucket"
	}
	if s.expires {
		words += "; it cannot be revoked and lives 15 minutes at the least"
	}
	return words
}

// statement is one of a policy's.
type statement struct {
	Effect    string                         `json:"Effect"`
	Action    []string                       `json:"Action"`
	Resource  []string                       `json:"Resource,omitempty"`
	Condition map[string]map[string][]string `json:"Condition,omitempty"`
}

// policy is the session's, in the language of AWS. What it does not allow is refused, and
// it allows nothing that the account or role may not do anyway.
//
// noAdmin is for MinIO: until October 2025 whoever held a session could make himself an access
// key that outlives it, which was forbidden by nothing but a deny.
func (s *scope) policy(partition string, noAdmin bool) (string, error) {
	bucket := "arn:" + partition + ":s3:::" + s.bucket
	objects := statement{Effect: "Allow", Resource: []string{bucket + "/" + s.prefix + "*"}}
	var all []statement
	for _, action := range s.actions {
		if action != "list" {
			objects.Action = append(objects.Action, calls[action]...)
			continue
		}
		all = append(all, statement{
			Effect: "Allow", Action: calls[action], Resource: []string{bucket},
			Condition: map[string]map[string][]string{"StringLike": {"s3:prefix": {s.prefix + "*"}}},
		})
	}
	if len(objects.Action) > 0 {
		all = append(all, objects)
	}
	if noAdmin {
		all = append(all, statement{Effect: "Deny", Action: []string{"admin:*"}})
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	if err != nil {
		return "", fmt.Errorf("rendering the session's policy: %w", err)
	}
	return string(text), nil
}
