package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// grantTable is the job summary's page on one grant: who may read the run may
// read it, so it says what was granted and never the credential.
func grantTable(g *client.Grant) string {
	var b strings.Builder
	b.WriteString("### Stepkey: " + cell(g.Task) + "\n\n| | |\n|---|---|\n")
	rows := [][2]string{
		{"Task", cell(g.Task)},
		{"Granted", cell(g.Granted)},
		{"Kind", cell(g.Kind)},
		{"Until", moment(g.EndsAt)},
		{"Ends", ending(g)},
		{"Lease", "`" + g.LeaseID + "`"},
	}
	if _, public := sortedOut(g); len(public) > 0 {
		rows = append(rows, [2]string{"Not masked", cell(strings.Join(public, ", "))})
	}
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	return b.String()
}

// endTable is the summary's page on how leases ended: of each its id, and what became
// of it.
func endTable(title string, leases [][2]string) string {
	var b strings.Builder
	b.WriteString("### Stepkey: " + cell(title) + "\n\n| Lease | How it ended |\n|---|---|\n")
	for _, row := range leases {
		fmt.Fprintf(&b, "| %s | %s |\n", cell(row[0]), cell(row[1]))
	}
	return b.String()
}

// ending says how a lease will end: "revoked" only where that is possible.
func ending(g *client.Grant) string {
	if !g.Revocable {
		return "cannot be revoked: expires at " + moment(g.DiesAt)
	}
	return "revoked when this job ends, or at that moment" + remaining(g.Remains)
}

// remaining goes behind "revoked" where that leaves something of the credential.
func remaining(what string) string {
	if what == "" {
		return ""
	}
	return "; what remains: " + what
}

// cell makes text of others safe inside a Markdown table.
func cell(text string) string {
	return strings.NewReplacer(
		"\\", "\\\\", "|", "\\|", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "#", "\\#", "@", "&#64;",
		"<", "&lt;", ">", "&gt;", "&", "&amp;", "\n", " ", "\r", " ",
	).Replace(text)
}

// list names leases and what became of them, for the log.
func list(leases []client.Ended) string {
	if len(leases) == 0 {
		return "none was left"
	}
	parts := make([]string, len(leases))
	for i, lease := range leases {
		parts[i] = lease.ID + " is " + stateInWords(lease.State)
	}
	return strings.Join(parts, ", ")
}

// stateInWords: an exchange may know states that this program does not.
func stateInWords(state string) string {
	switch state {
	case "revoked", "expired":
		return state
	case "failed":
		return "void: nothing was created"
	case "revoking":
		return "being revoked"
	case "unconfirmed":
		return "still to be confirmed as ended"
	}
	return "in the state " + state
}

// lived is how long a lease was out, as far as this machine's clock knows.
func lived(issuedAt string, now time.Time) string {
	at, err := time.Parse(time.RFC3339Nano, issuedAt)
	if err != nil || now.Before(at) {
		return ""
	}
	return ", " + now.Sub(at).Round(time.Second).String() + " after it was issued"
}
