package policy

import (
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Asked is what a workload asks for. Everything but the task's name may only
// narrow what the task allows; a zero value leaves it as the task has it.
type Asked struct {
	Task string
	TTL  time.Duration
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
	Rule    string        // the entry of allow that let it in, as "publish-release.yaml:5"
}
