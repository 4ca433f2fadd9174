package yamlfile

import (
	"cmp"
	"errors"
	"slices"
)

// A Collector gathers the faults of one block, so that whoever wrote it sees all of them
// at once. The zero value is ready. Not safe for concurrent use.
type Collector struct{ faults []error }

// Refuse adds a fault at a place.
func (c *Collector) Refuse(at Node, format string, args ...any) { c.Add(at.Errorf(format, args...)) }

// Add adds an error that holds faults, such as Decode's. nil adds nothing.
func (c *Collector) Add(err error) {
	if err != nil {
		c.faults = append(c.faults, err)
	}
}

// Text reads a text. What is none is a fault, and false.
func (c *Collector) Text(at Node) (string, bool) {
	var text string
	if err := at.Decode(&text); err != nil {
		c.Add(err)
		return "", false
	}
	return text, true
}

// Any reports whether there is a fault so far.
func (c *Collector) Any() bool { return len(c.faults) > 0 }

// Err is every fault, in the order of the file. nil: there is none.
func (c *Collector) Err() error {
	all := errors.Join(c.faults...)
	if sorted := InFileOrder(all); sorted != nil {
		return sorted
	}
	return all
}

// InFileOrder joins every *Error that err holds anew, those of one file sorted by their
// place. What is no *Error is left out.
func InFileOrder(err error) error {
	faults := Faults(err)
	slices.SortStableFunc(faults, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	all := make([]error, len(faults))
	for i, fault := range faults {
		all[i] = fault
	}
	return errors.Join(all...)
}
