package policy

import (
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Asked is what a workload asks for. Everything but the task's name may only
// narrow what the task allows; a zero value leaves it as the task has it.
type Asked struct {
	Task   string
	TTL    time.Duration
	Inputs map[string]string // by the names that the task declares
	// Narrow is what of the credential is wanted, as {"github": {…}}: what it names
	// takes the place of what the task's block has there. Absent: all of it.
	Narrow backend.Block
}

// A Grant is what one workload gets of one task: never wider than the task,
// never wider than asked. Only Set.Authorize makes one.
type Grant struct {
	Task    string
	Purpose string
	Backend string        // the name of the backend: the key under credential
	Scope   backend.Scope // exactly what will be ordered
	TTL     time.Duration // from the moment of the lease's intent
	PerJob  int           // live leases of this task that one job may hold
	Until   Until         // whose end ends it, where it is not given back before
	Require Required      // what its CI system must confirm first
	Bind    Bind          // what the subject token must be bound to
	Rule    string        // the entry of allow that let it in, as "publish-release.yaml:5"
}
