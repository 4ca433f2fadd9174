package main

import "time"

// Nothing but its end ends some credentials: of a database's session that is open there is
// no moment at which it is gone by itself. The wire has a moment for each, and the last
// year that RFC 3339 can write stands for none. People are told so, and programs get no
// moment.
const lastYear = 9999

func diesByItself(at time.Time) bool { return at.Year() < lastYear }

// inAnyCase goes behind what an exchange still does about a credential.
func inAnyCase(what string, diesAt time.Time) string {
	if !diesByItself(diesAt) {
		return "nothing else ends it"
	}
	return what + " is gone by " + moment(diesAt) + " in any case"
}

// staysDown is until when a credential lives whose end nobody brings about.
func staysDown(diesAt time.Time) string {
	if !diesByItself(diesAt) {
		return "if the exchange stays down, until that is back: nothing else ends it"
	}
	return "if the exchange stays down, until " + moment(diesAt)
}

// momentOrNone is the zero time where a credential does not die by itself.
func momentOrNone(diesAt time.Time) time.Time {
	if !diesByItself(diesAt) {
		return time.Time{}
	}
	return diesAt
}
