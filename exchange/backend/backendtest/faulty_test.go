package backendtest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// faulty is an honest backend with single methods replaced.
type faulty struct {
	honest
	scope  func(backend.Block) (backend.Scope, error)
	terms  func(backend.Order) backend.Terms
	issue  func(context.Context, backend.Order) (backend.Issued, error)
	revoke func(context.Context, backend.LeaseID, secret.String) error
	gone   func(secret.String) (bool, error)
}

func (f faulty) Scope(b backend.Block) (backend.Scope, error) {
	if f.scope != nil {
		return f.scope(b)
	}
	return f.honest.Scope(b)
}

func (f faulty) Terms(o backend.Order) backend.Terms {
	if f.terms != nil {
		return f.terms(o)
	}
	return f.honest.Terms(o)
}

func (f faulty) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	if f.issue != nil {
		return f.issue(ctx, o)
	}
	return f.honest.Issue(ctx, o)
}

func (f faulty) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	if f.revoke != nil {
		return f.revoke(ctx, lease, handle)
	}
	return f.honest.Revoke(ctx, lease, handle)
}

func (f faulty) Gone(ctx context.Context, lease backend.LeaseID, handle secret.String) (bool, error) {
	if f.gone != nil {
		return f.gone(handle)
	}
	return f.honest.Gone(ctx, lease, handle)
}

// judging is a scope with a judgement of its own.
type judging struct {
	can
	covers func(can, backend.Scope) bool
	words  func(can) string
}

func (j judging) Covers(other backend.Scope) bool {
	if o, ours := other.(judging); ours {
		other = o.can
	}
	return j.covers(j.can, other)
}

func (j judging) String() string { return j.words(j.can) }

// judged makes a backend whose scopes judge with covers.
func judged(h honest, covers func(can, backend.Scope) bool) faulty {
	wrap := func(c can) judging { return judging{c, covers, can.String} }
	return faulty{
		honest: h,
		scope: func(b backend.Block) (backend.Scope, error) {
			read, err := h.Scope(b)
			if err != nil {
				return nil, err
			}
			return wrap(read.(can)), nil
		},
		issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
			if j, ours := o.Scope.(judging); ours {
				o.Scope = j.can
			}
			issued, err := h.Issue(ctx, o)
			if err == nil {
				issued.Granted = wrap(issued.Granted.(can))
			}
			return issued, err
		},
	}
}

// worded makes a backend whose scopes are said so.
func worded(h honest, words func(can) string) faulty {
	return faulty{honest: h, scope: func(b backend.Block) (backend.Scope, error) {
		scope, err := h.Scope(b)
		if err != nil {
			return nil, err
		}
		return judging{scope.(can), can.Covers, words}, nil
	}}
}

// giving makes a backend that gives other verbs and another life than it says.
func giving(h honest, verbs func(can) can, life time.Duration) faulty {
	return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
		scope, ours := o.Scope.(can)
		if !ours {
			return h.Issue(ctx, o)
		}
		issued, err := h.grant(o, verbs(scope), o.At.Add(life))
		issued.Granted, issued.DiesAt = scope, h.Terms(o).DiesAt
		return issued, err
	}}
}

// issuing makes a backend that changes what was issued.
func issuing(h honest, change func(backend.Order, *backend.Issued, error) error) faulty {
	return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
		issued, err := h.Issue(ctx, o)
		return issued, change(o, &issued, err)
	}}
}

// fault is a seeded fault, and the story that must find it.
type fault struct {
	name  string
	over  func(honest) backend.Backend
	found string
}

const tenYears = 10 * 365 * 24 * time.Hour

var issueFaults = []fault{
	{"a hostile block is accepted", func(h honest) backend.Backend {
		return faulty{honest: h, scope: func(b backend.Block) (backend.Scope, error) {
			if scope, err := h.Scope(b); err == nil {
				return scope, nil
			}
			return can{"read"}, nil
		}}
	}, "hostile blocks are refused with their place"},
	{"a hostile block is refused without a place", func(h honest) backend.Backend {
		return faulty{honest: h, scope: func(b backend.Block) (backend.Scope, error) {
			scope, err := h.Scope(b)
			if err != nil {
				return nil, errors.New("bad block")
			}
			return scope, nil
		}}
	}, "hostile blocks are refused with their place"},
	{"a scope has no words", func(h honest) backend.Backend {
		return worded(h, func(can) string { return " " })
	}, "a block is read and said in words"},
	{"the words hold the exchange's own password", func(h honest) backend.Backend {
		return worded(h, func(can) string { return "notes of whoever has " + ownPassword })
	}, "a block is read and said in words"},
	{"every scope is said in the same words", func(h honest) backend.Backend {
		return worded(h, func(can) string { return "read notes" })
	}, "the words of a scope say what it allows and nothing more"},
	{"the words leave out the worst", func(h honest) backend.Backend {
		return worded(h, func(c can) string { return strings.ReplaceAll(c.String(), "burn", "tidy") })
	}, "the words of a scope say what it allows and nothing more"},
	{"the words promise too much", func(h honest) backend.Backend {
		return worded(h, func(c can) string { return c.String() + ", and you may burn them" })
	}, "the words of a scope say what it allows and nothing more"},
	{"covers is always true", func(h honest) backend.Backend {
		return judged(h, func(can, backend.Scope) bool { return true })
	}, "a scope covers what it allows and nothing more"},
	{"covers is never true", func(h honest) backend.Backend {
		return judged(h, func(can, backend.Scope) bool { return false })
	}, "a scope covers what it allows and nothing more"},
	{"covers is turned around", func(h honest) backend.Backend {
		return judged(h, func(c can, other backend.Scope) bool { return other != nil && other.Covers(c) })
	}, "a scope covers what it allows and nothing more"},
	{"a foreign scope is covered", func(h honest) backend.Backend {
		return judged(h, func(c can, other backend.Scope) bool {
			_, ours := other.(can)
			return other != nil && !ours || c.Covers(other)
		})
	}, "a scope covers what it allows and nothing more"},
	{"terms drift with the clock", func(h honest) backend.Backend {
		return faulty{honest: h, terms: func(backend.Order) backend.Terms {
			return backend.Terms{DiesAt: h.now().Add(2 * noteLife), Revocable: true}
		}}
	}, "terms are known beforehand and say the same each time"},
	{"terms promise an earlier death", func(h honest) backend.Backend {
		return faulty{honest: h, terms: func(o backend.Order) backend.Terms {
			return backend.Terms{DiesAt: o.At.Add(noteLife / 2), Revocable: true}
		}}
	}, "a credential does its task and nothing else"},
	{"an old order is filled with a fresh life", func(h honest) backend.Backend {
		return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
			o.At = h.now()
			return h.Issue(ctx, o)
		}}
	}, "an order from long ago is not filled beyond its terms"},
	{"the credential outlives its death", func(h honest) backend.Backend {
		return giving(h, func(ordered can) can { return ordered }, 2*noteLife)
	}, "a credential is gone when it was said to be"},
	{"the credential can do everything", func(h honest) backend.Backend {
		return giving(h, func(can) can { return can{"read", "write", "burn"} }, noteLife)
	}, "a credential does its task and nothing else"},
	{"a narrower order gets what the task's block allows", func(h honest) backend.Backend {
		return giving(h, func(ordered can) can { return append(can{"write"}, ordered...) }, noteLife)
	}, "a narrower order gets no more than it says"},
	{"a narrower order gets nothing", func(h honest) backend.Backend {
		return giving(h, func(ordered can) can {
			if len(ordered) == 1 {
				return nil
			}
			return ordered
		}, noteLife)
	}, "a narrower order gets no more than it says"},
	{"a credential lives for ten years, and the terms say so", func(h honest) backend.Backend {
		f := giving(h, func(ordered can) can { return ordered }, tenYears)
		f.terms = func(o backend.Order) backend.Terms { return backend.Terms{DiesAt: o.At.Add(tenYears), Revocable: true} }
		return f
	}, "a life follows the order's end"},
	{"more is granted than was ordered", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			issued.Granted = can{"read", "write", "burn"}
			return err
		})
	}, "a credential does its task and nothing else"},
	{"the words of the grant hold the key", func(h honest) backend.Backend {
		return issuing(h, func(o backend.Order, issued *backend.Issued, err error) error {
			if err == nil {
				key := issued.Handle.Reveal()
				issued.Granted = judging{o.Scope.(can), can.Covers, func(can) string { return "notes with " + key }}
			}
			return err
		})
	}, "a credential does its task and nothing else"},
	{"a variable carries no value", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			issued.Env = map[string]string{"NOTES_KEY": "token"}
			return err
		})
	}, "a credential does its task and nothing else"},
	{"a foreign scope is served", func(h honest) backend.Backend {
		return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
			if _, ours := o.Scope.(can); !ours {
				o.Scope = can{"read"}
			}
			return h.Issue(ctx, o)
		}}
	}, "a scope of another backend is refused before anything is made"},
	{"all orders share one credential", func(h honest) backend.Backend {
		var first backend.Issued
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			if first.Values == nil {
				first = *issued
			}
			*issued = first
			return err
		})
	}, "every order gets a credential of its own"},
	{"the key is said to be no secret", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			issued.Public = []string{"key"}
			return err
		})
	}, "every order gets a credential of its own"},
	{"what is said to be no secret is no value", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			issued.Public = []string{"address"}
			return err
		})
	}, "every order gets a credential of its own"},
}
