// Package house holds the tests that keep the plan of this repository true: the
// rooms that ARCHITECTURE.md names are the rooms that exist, each imports only
// what it may, nothing grows past its size, the order of lease and issue cannot
// be turned around, every link leads somewhere, and no text names a machine.
//
// It has no code of its own and hides nothing: plan_test.go is the plan as data,
// the files beside it are one family of rules each, and can_fail_test.go shows
// for every rule a small tree that breaks it. When a rule stands in the way,
// either the code is in the wrong room or the plan has changed; then change
// plan_test.go and ARCHITECTURE.md together.
package house
