package server

// Holder is what a request proves, for the tests of hostile proofs.
var Holder = (*Server).holder
