package identity

import "strings"

const (
	maxSPIFFEID    = 2048 // bytes (SPIFFE-ID, 2.3)
	maxTrustDomain = 255
)

// checkSubject demands that sub is a SPIFFE ID of the issuer's trust domain: whoever may
// sign for one domain must not name workloads of another.
func (i Issuer) checkSubject(k kind, c Claims) error {
	if !k.subject {
		return nil
	}
	sub, _ := c["sub"].(string)
	if why := NotInTrustDomain(sub, i.TrustDomain); why != "" {
		return refuse(RuleClaims, "the claim sub "+why, fixIssuerToken)
	}
	return nil
}

// NotInTrustDomain says why a text is no SPIFFE ID of a workload of a trust domain, in its
// one spelling (SPIFFE-ID, 2), to complete "sub …"; nothing where it is one.
func NotInTrustDomain(id, domain string) (why string) {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok || len(id) > maxSPIFFEID {
		return "is no SPIFFE ID, as spiffe://" + domain + "/build/release"
	}
	named, path, ok := strings.Cut(rest, "/")
	switch {
	case named != domain:
		return "is of another trust domain than " + domain
	case !ok || !isSPIFFEPath(path):
		return "names no workload in plain form: /, then letters, digits, and . _ - between single slashes"
	}
	return ""
}

func isSPIFFEPath(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
		}) {
			return false
		}
	}
	return true
}

func isTrustDomain(name string) bool {
	return name != "" && len(name) <= maxTrustDomain && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}
