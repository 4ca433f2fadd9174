package policy

import (
	"errors"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// life takes the time that was asked for where it is shorter than the task's. What is
// longer is refused, not cut: whoever asked for it would count on it.
func (t *Task) life(asked time.Duration) (ttl time.Duration, why string) {
	switch {
	case asked == 0:
		return t.TTL, ""
	case asked > t.TTL:
		return 0, "a lifetime of " + span(asked) + " was asked for; the task gives at most " + span(t.TTL) + ", and asking may only narrow"
	case asked < minTTL:
		return 0, "a lifetime of " + span(asked) + " was asked for; the least is " + span(minTTL)
	default:
		return asked, ""
	}
}

// granted is what one workload gets: what the task's block says for it, or less where
// less was asked for.
func (t *Task) granted(f facts, asked backend.Block) (backend.Scope, string) {
	if !t.Templated && !asked.Exists() {
		return t.Scope, ""
	}
	block, own, why := t.own(f)
	if why != "" || !asked.Exists() {
		return own, why
	}
	return t.narrowed(block, own, asked)
}

// own is the block as it is for one workload, and what it says. Whatever came out of
// claims and inputs, the backend reads it as it reads a task file.
func (t *Task) own(f facts) (backend.Block, backend.Scope, string) {
	if !t.Templated {
		return t.template.block, t.Scope, ""
	}
	block, none := t.template.fill(f)
	if none != nil {
		return backend.Block{}, nil, "the credential cannot be made out of the claims and inputs: " + none.Error() + " (" + place(none.at) + ")"
	}
	scope, err := t.scoper.Scope(block)
	if err != nil || scope == nil {
		return backend.Block{}, nil, "the task's block does not accept what came of the claims and inputs: " + firstFault(err)
	}
	return block, scope, ""
}

// narrowed lays what was asked for over the task's block, key by key, and takes it if
// the task's own scope covers what that says. The backend's Covers decides, so that
// nothing that was asked for can widen.
func (t *Task) narrowed(block backend.Block, own backend.Scope, asked backend.Block) (backend.Scope, string) {
	wanted := asked.Get(t.Backend)
	switch {
	case len(asked.Keys()) != 1 || !wanted.Exists():
		return nil, "what is asked of the credential must stand under the task's one kind, " + t.Backend
	case !wanted.IsMapping() || len(wanted.Keys()) == 0:
		return nil, "nothing is asked of the credential under " + t.Backend + "; name what is wanted, or leave it out"
	case holdsOpener(wanted):
		return nil, "what is asked of the credential holds ${; expressions are for task files"
	}
	scope, err := t.scoper.Scope(block.Overlay(wanted))
	if err != nil || scope == nil {
		return nil, "what is asked of the credential is not taken: " + firstFault(err)
	}
	if !own.Covers(scope) {
		return nil, "asked for " + scope.String() + "; the task gives " + own.String() + ", and asking may only narrow"
	}
	return scope, ""
}

// holdsOpener looks at keys and texts.
func holdsOpener(n yamlfile.Node) bool {
	errHolds := errors.New("it does")
	_, err := n.Rewrite(func(_ yamlfile.Node, text string) (string, error) {
		if strings.Contains(text, "${") {
			return "", errHolds
		}
		return text, nil
	})
	return err != nil || keysHold(n, "${")
}

func keysHold(n yamlfile.Node, sign string) bool {
	for _, key := range n.Keys() {
		if strings.Contains(key, sign) || keysHold(n.Get(key), sign) {
			return true
		}
	}
	for _, item := range n.Items() {
		if keysHold(item, sign) {
			return true
		}
	}
	return false
}

// firstFault is a backend's first word against a block, without the line of text.
func firstFault(err error) string {
	if faults := yamlfile.Faults(err); len(faults) > 0 {
		return faults[0].Message
	}
	if err != nil {
		return shown(err.Error())
	}
	return "the backend gave no scope for it"
}
