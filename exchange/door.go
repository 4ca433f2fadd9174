package exchange

// For is the same exchange with a second door: it believes the subject tokens that v
// does, and all else is shared with x as x is now. A token is used up for both.
func (x *Exchange) For(v Verifier) *Exchange {
	return &Exchange{
		Verifier: v, Policy: x.Policy, Owned: x.Owned, Leases: x.Leases, Backends: x.Backends, Owners: x.Owners,
		Jobs: x.Jobs, Checks: x.Checks, Prove: x.Prove, Observe: x.Observe, Now: x.Now, Log: x.Log,
	}
}
