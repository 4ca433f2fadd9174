package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// actionMain is the action's first half. With a task it gets the task's credential, with
// a lease it ends that lease, with neither it installs the program.
func (s *step) actionMain(ctx context.Context) int {
	if err := s.actionStep(ctx); err != nil {
		told := explain(err)
		s.fail(told.title, told.text)
		return 1
	}
	return 0
}

func (s *step) actionStep(ctx context.Context) error {
	if err := s.checkFiles("GITHUB_STATE"); err != nil {
		return err
	}
	if err := s.save(stateStage, stageStarted); err != nil {
		return err
	}
	s.debugSurroundings()
	task, lease := s.gh.GetInput("task"), s.gh.GetInput("lease")
	strays := strays(os.Environ())
	for _, stray := range strays {
		s.warn("input "+stray.name, stray.text())
	}
	switch {
	case task != "" && lease != "":
		return badInput("lease", "stands beside `task`: one step gets the credential of a task, another ends it by its lease")
	case task != "":
		return s.getCredential(ctx)
	case lease != "":
		return s.closeLease(ctx, lease)
	}
	return s.install(strays)
}

// getCredential gets one credential, masked, and hands it over. Whatever fails after the
// exchange has answered gives the credential back.
func (s *step) getCredential(signalled context.Context) error {
	if err := s.checkFiles("GITHUB_OUTPUT"); err != nil {
		return err
	}
	in, err := s.readInputs()
	if err != nil {
		return err
	}
	if err := s.prepare(signalled, in); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(signalled, s.waits.mainAll)
	defer cancel()
	began := s.now()
	s.debug("asking %s for %s, audience %s, ttl %v, inputs %v", in.exchange.URL(), in.task, in.audience, in.ttl, slices.Sorted(maps.Keys(in.values)))
	grant, err := s.ask(ctx, in)
	if err != nil {
		return err
	}
	s.debug("got it after %v: values %v, variables %v", s.now().Sub(began).Round(time.Millisecond), slices.Sorted(maps.Keys(grant.Values)), slices.Sorted(maps.Keys(grant.Env)))
	if err := s.handOver(in, grant); err != nil {
		return s.takeBack(ctx, in, grant, err)
	}
	if signalled.Err() != nil {
		return s.takeBack(ctx, in, grant, cancelled("while the credential was handed over"))
	}
	s.granted(in, grant)
	return nil
}

// debugSurroundings names what decides how this machine reaches others.
func (s *step) debugSurroundings() {
	s.debug("stepkey %s, %s/%s", version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if proxy, err := url.Parse(s.getenv(name)); err == nil && proxy.Host != "" {
			s.debug("%s names the proxy %s", name, proxy.Host) // without its user and password
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value := s.getenv(name); value != "" {
			s.debug("%s is %s", name, value)
		}
	}
}

// prepare does what must come before the first question: nothing that would stop
// us from handing over may turn up later, and post must know that a credential
// may exist, even if this process dies.
func (s *step) prepare(signalled context.Context, in inputs) error {
	if _, err := s.idTokenRequest(signalled, in.audience); err != nil {
		return err
	}
	if in.exportEnv {
		if err := s.checkFiles("GITHUB_ENV"); err != nil {
			return err
		}
	}
	return s.saveAll([][2]string{
		{stateExchange, in.exchange.URL()}, {stateAudience, in.audience}, {stateTask, in.task},
		{stateSummary, strconv.FormatBool(in.summary)}, {stateStage, stageAsked},
	})
}

func (s *step) saveAll(values [][2]string) error {
	for _, pair := range values {
		if err := s.save(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// handOver masks, then remembers the way back, then gives the credential to the
// steps that follow.
func (s *step) handOver(in inputs, g *client.Grant) error {
	if err := s.maskGrant(g); err != nil {
		return err
	}
	state := [][2]string{
		{stateLeaseToken, g.LeaseToken.Reveal()}, {stateLeaseID, g.LeaseID},
		{stateIssuedAt, s.now().UTC().Format(time.RFC3339Nano)},
		{stateEndsAt, g.EndsAt.Format(time.RFC3339)}, {stateDiesAt, g.DiesAt.Format(time.RFC3339)},
		{stateRevocable, strconv.FormatBool(g.Revocable)},
	}
	if g.Remains != "" {
		state = append(state, [2]string{stateRemains, g.Remains})
	}
	if err := s.saveAll(state); err != nil {
		return err
	}
	if err := fitting(in, g); err != nil {
		return err
	}
	return s.writeOut(in, g)
}

func (s *step) writeOut(in inputs, g *client.Grant) error {
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		if err := s.output(name, g.Values[name].Reveal()); err != nil {
			return err
		}
	}
	if err := s.output("lease-id", g.LeaseID); err != nil {
		return err
	}
	if err := s.output("expires-at", g.EndsAt.Format(time.RFC3339)); err != nil {
		return err
	}
	if !in.exportEnv {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		if err := s.export(name, g.Env[name].Reveal()); err != nil {
			return err
		}
	}
	return nil
}

// isName: letters, digits, _ and, in an output's name, hyphens; no digit first.
func isName(name, alsoAllowed string) bool {
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && !strings.ContainsRune(alsoAllowed, r)
	}
	return name != "" && len(name) <= 128 && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, bad)
}

// fitting checks all of a grant before any of it is written. Names go into
// command files too, and some variables are not an exchange's to set.
func fitting(in inputs, g *client.Grant) error {
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		if !isName(name, "-") || name == "lease-id" || name == "expires-at" {
			return unfit("one of the credential's values has a name that cannot be an output's")
		}
		if err := fits(g.Values[name].Reveal()); err != nil {
			return unfit(fmt.Sprintf("the credential's value %s cannot be an output: %v", name, err))
		}
	}
	if !in.exportEnv {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		if !isName(name, "") || steers(name) {
			return unfit("one of the credential's variables has a name that must not be set from outside")
		}
		if err := fits(g.Env[name].Reveal()); err != nil {
			return unfit(fmt.Sprintf("the credential's variable %s cannot be exported: %v", name, err))
		}
	}
	return nil
}

func unfit(why string) error { return &trouble{"credential refused", why} }

// takeBack ends a lease that could not be handed over, and returns why with how
// that went.
func (s *step) takeBack(ctx context.Context, in inputs, g *client.Grant, why error) error {
	told := explain(why)
	ended, err := s.endLease(ctx, in.exchange, g.LeaseToken)
	if err != nil {
		return &trouble{told.title, fmt.Sprintf("%s The credential could not be given back yet (%s); the clean-up at the end of the job tries again, and the exchange ends it by %s", sentence(told.text), explainEnd(err).text, moment(g.EndsAt))}
	}
	s.settled()
	return &trouble{told.title, fmt.Sprintf("%s The credential was given back: %s", sentence(told.text), list(ended.Leases))}
}

func cancelled(when string) error {
	return &trouble{"cancelled", "the step was told to stop " + when}
}

// granted says so once on the job's page and once in the summary.
func (s *step) granted(in inputs, g *client.Grant) {
	s.notice(fmt.Sprintf("%s: %s, until %s; %s (lease %s)", g.Task, g.Granted, moment(g.EndsAt), ending(g), g.LeaseID))
	if in.summary {
		s.appendSummary(grantTable(g))
	}
}
