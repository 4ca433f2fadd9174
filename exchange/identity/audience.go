package identity

// For makes a Verifier for tokens that are made for another audience, as a second
// door of one exchange needs it. Everything else is shared, the issuers' keys and
// how often they may be asked for included.
func (v *Verifier) For(audience string) (*Verifier, error) {
	if err := checkOurAudience(audience); err != nil {
		return nil, err
	}
	other := *v
	other.audience = audience
	return &other, nil
}
