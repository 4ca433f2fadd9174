package ssh

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Replace, TryLock, WriteKRL and SerialOf are for tests.
var (
	Replace  = replace
	TryLock  = tryLock
	WriteKRL = writeKRL
	SerialOf = serialOf
)

// Nobody is the scope of a certificate without principals, which no task gets.
var Nobody backend.Scope = &scope{hosts: []string{"web1.example.com"}}

// ReadKRL is a strict reader of what the backend writes: anything half, or beside it, is
// an error. It returns the serial numbers by their authority.
func ReadKRL(list []byte) (map[string][]uint64, error) {
	rest := list
	take := func(n int) []byte {
		if n > len(rest) {
			rest = nil
			return nil
		}
		taken := rest[:n]
		rest = rest[n:]
		return taken
	}
	text := func() []byte {
		if n := take(4); n != nil {
			return take(int(binary.BigEndian.Uint32(n)))
		}
		return nil
	}
	if string(take(len(krlMagic))) != krlMagic || len(take(4+8+8+8)) != 28 || text() == nil || string(text()) != "stepkey" {
		return nil, errors.New("no list, or half of one")
	}
	found := map[string][]uint64{}
	for len(rest) > 0 {
		if kind := take(1); kind[0] != krlCertificates {
			return nil, fmt.Errorf("a section of kind %d", kind[0])
		}
		section := text()
		if section == nil {
			return nil, errors.New("half of a section")
		}
		after := rest
		rest = section
		authority := string(text())
		text()
		if kind := take(1); len(kind) != 1 || kind[0] != krlSerials {
			return nil, errors.New("no serial numbers")
		}
		serials := text()
		if len(serials) == 0 || len(serials)%8 != 0 || len(rest) != 0 {
			return nil, errors.New("half of the serial numbers")
		}
		for ; len(serials) > 0; serials = serials[8:] {
			found[authority] = append(found[authority], binary.BigEndian.Uint64(serials))
		}
		rest = after
	}
	return found, nil
}
