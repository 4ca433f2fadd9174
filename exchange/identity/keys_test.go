package identity_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
)

// inBubble runs a story about keys and time: inside, time passes only when everybody
// waits. The verifier uses the bubble's clock.
func inBubble(t *testing.T, tell func(t *testing.T, v *identity.Verifier, n *network)) {
	t.Helper()
	forgeFor(t) // keys are made outside: their sync.Once must not belong to the bubble
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		tell(t, verifierAt(t, n, nil), n)
	})
}

// believed fails the test unless an honest token under the kid, fresh now, passes.
func believed(t *testing.T, v *identity.Verifier, kid, signer string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), withKid(t, time.Now(), kid, signer)); err != nil {
		t.Errorf("kid %s: %v", kid, err)
	}
}

// refusedBy fails the test unless the token is refused by the rule.
func refusedBy(t *testing.T, v *identity.Verifier, rule, kid, signer string) {
	t.Helper()
	_, err := v.Verify(t.Context(), withKid(t, time.Now(), kid, signer))
	if got := ruleOf(t, err); got != rule {
		t.Errorf("kid %s is refused by the rule %s, want %s: %v", kid, got, rule, err)
	}
}

// unavailable fails the test unless nothing can be said about the token now.
func unavailable(t *testing.T, v *identity.Verifier, kid string) {
	t.Helper()
	_, err := v.Verify(t.Context(), withKid(t, time.Now(), kid, "rsa-1"))
	if _, refused := errors.AsType[*identity.Refusal](err); refused || !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("want unavailable, got %v", err)
	}
}

func (n *network) wantFetches(t *testing.T, want int) {
	t.Helper()
	if got := n.requests(); got != want*fetchLength {
		t.Errorf("%d requests went out, want %d fetches of %d", got, want, fetchLength)
	}
}

func TestRandomKeyIDsCauseOneFetchAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		for minute := range 3 {
			for each := range 200 {
				refusedBy(t, v, "key", fmt.Sprintf("random-%d-%d", minute, each), "stranger")
			}
			n.wantFetches(t, 1+minute)
			<-time.After(time.Minute)
		}
	})
}

func TestBadSignaturesCauseOneFetchAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		for minute := range 3 {
			for range 50 {
				refusedBy(t, v, "signature", "rsa-1", "stranger")
			}
			n.wantFetches(t, 1+minute)
			<-time.After(time.Minute)
		}
	})
}

func TestOneIssuersFloodDoesNotKeepAnotherFromItsKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		for each := range 50 {
			refusedBy(t, v, "key", fmt.Sprintf("random-%d", each), "stranger")
		}
		n.wantFetches(t, 1)
		claims := honestClaims(time.Now())
		claims["iss"] = gheURL
		if _, err := v.Verify(t.Context(), forgeFor(t).sign(t, "ghe-1", encode(t, honestHeader()), encode(t, claims))); err != nil {
			t.Error(err)
		}
		n.wantFetches(t, 2)
	})
}

func TestCallersAtTheStartShareOneFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		n.holds(func(*http.Request) error { <-time.After(time.Second); return nil })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { believed(t, v, "rsa-1", "rsa-1") })
		}
		all.Wait()
		n.wantFetches(t, 1)
	})
}

func TestAKnownKeyDoesNotWaitForAFetchUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		<-time.After(time.Minute)
		n.holds(func(*http.Request) error { <-time.After(time.Second); return nil })
		var unknown sync.WaitGroup
		unknown.Go(func() { refusedBy(t, v, "key", "random", "stranger") })
		synctest.Wait() // it waits for its fetch now
		began := time.Now()
		believed(t, v, "rsa-1", "rsa-1")
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the known key waited %s", waited)
		}
		unknown.Wait()
		n.wantFetches(t, 2)
	})
}

func TestAWithdrawnKeyIsGoneAfterAnHourEvenWithoutTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		n.publish(t, githubURL, onlyKey(t, "ec-1"))
		<-time.After(49 * time.Minute)
		believed(t, v, "rsa-1", "rsa-1") // known until then, and the issuer was not asked again
		n.wantFetches(t, 1)
		<-time.After(11 * time.Minute)
		refusedBy(t, v, "key", "rsa-1", "rsa-1")
		n.wantFetches(t, 2)
	})
}

func TestWithTrafficKeysAreRenewedBeforeAnybodyHasToWait(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		n.publish(t, githubURL, onlyKey(t, "ec-1"))
		<-time.After(50 * time.Minute)
		n.holds(func(*http.Request) error { <-time.After(time.Second); return nil })
		began := time.Now()
		believed(t, v, "rsa-1", "rsa-1")
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the caller waited %s for the renewal", waited)
		}
		<-time.After(3 * time.Second)
		refusedBy(t, v, "key", "rsa-1", "rsa-1")
		n.wantFetches(t, 2)
	})
}

func TestANewKeyIsFoundWithinAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		f := forgeFor(t)
		n.publish(t, githubURL, map[string]any{"keys": []any{
			jwk(t, "rsa-1", &f.rsa1.PublicKey, nil), jwk(t, "rsa-2", &f.ghe.PublicKey, nil),
		}})
		<-time.After(59 * time.Second)
		refusedBy(t, v, "key", "rsa-2", "ghe-1")
		<-time.After(time.Second)
		believed(t, v, "rsa-2", "ghe-1")
		believed(t, v, "rsa-1", "rsa-1")
		n.wantFetches(t, 2)
	})
}

func TestANewKeyUnderAnOldKeyIDReplacesIt(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		n.publish(t, githubURL, map[string]any{"keys": []any{jwk(t, "rsa-1", &forgeFor(t).ghe.PublicKey, nil)}})
		<-time.After(time.Minute)
		believed(t, v, "rsa-1", "ghe-1")
		refusedBy(t, v, "signature", "rsa-1", "rsa-1")
		n.wantFetches(t, 2)
	})
}

func TestWhoWithdrawsAllKeysIsTakenAtTheirWord(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		n.publish(t, githubURL, map[string]any{"keys": []any{}})
		<-time.After(time.Hour)
		refusedBy(t, v, "key", "rsa-1", "rsa-1")
	})
}

func TestAnUnreachableIssuersKeysServeForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		believed(t, v, "rsa-1", "rsa-1")
		n.fails("no route to host")
		<-time.After(2 * time.Hour)
		believed(t, v, "rsa-1", "rsa-1")
		unavailable(t, v, "rsa-2") // perhaps a new key: that cannot be told now
		<-time.After(22 * time.Hour)
		believed(t, v, "rsa-1", "rsa-1")
		<-time.After(time.Second)
		unavailable(t, v, "rsa-1")
		n.fails("")
		<-time.After(5 * time.Second)
		believed(t, v, "rsa-1", "rsa-1")
	})
}

func TestABrokenAnswerDoesNotReplaceKeys(t *testing.T) {
	for name, document := range map[string]string{
		"not JSON": "<html>", "no keys": `{}`, "cut off": `{"keys":[`, "keys twice": `{"keys":[],"KEYS":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
				believed(t, v, "rsa-1", "rsa-1")
				n.mu.Lock()
				n.documents[githubURL+"/.well-known/jwks"] = document
				n.mu.Unlock()
				<-time.After(2 * time.Hour)
				believed(t, v, "rsa-1", "rsa-1")
				n.wantFetches(t, 2)
			})
		})
	}
}

func TestAnExchangeThatStartsBeforeItsIssuerRecoversInSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		n.fails("connection refused")
		for range 100 {
			unavailable(t, v, "rsa-1")
		}
		if got := n.requests(); got != 1 {
			t.Errorf("%d requests went out, want 1", got)
		}
		n.fails("")
		<-time.After(4 * time.Second)
		unavailable(t, v, "rsa-1")
		<-time.After(time.Second)
		believed(t, v, "rsa-1", "rsa-1")
	})
}

func TestASlowIssuerIsGivenUpAfterFiveSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		n.holds(untilGivenUp)
		began := time.Now()
		unavailable(t, v, "rsa-1")
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("given up after %s", waited)
		}
	})
}

func TestACallerWaitsNoLongerThanItsContextAllows(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		n.holds(untilGivenUp)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := v.Verify(ctx, honest(t, began))
		if !errors.Is(err, identity.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("want unavailable by deadline, got %v", err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
		<-time.After(10 * time.Second) // the ring's own fetch ends by its own limit
	})
}

func TestOneCallersCancellationDoesNotFailTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, v *identity.Verifier, n *network) {
		n.holds(func(*http.Request) error { <-time.After(time.Second); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := v.Verify(ctx, honest(t, time.Now())); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled caller got %v", err)
			}
		})
		synctest.Wait() // its fetch is under way
		all.Go(func() { believed(t, v, "rsa-1", "rsa-1") })
		synctest.Wait()
		cancel()
		all.Wait()
		n.wantFetches(t, 1)
	})
}

// untilGivenUp is an issuer that accepts a request and never answers.
func untilGivenUp(request *http.Request) error {
	<-request.Context().Done()
	return request.Context().Err()
}

// onlyKey is a key set with one honest key in it.
func onlyKey(t *testing.T, kid string) map[string]any {
	t.Helper()
	entries, _ := forgeFor(t).keySet(t)["keys"].([]any)
	for _, entry := range entries {
		if members, ok := entry.(map[string]any); ok && members["kid"] == kid {
			return map[string]any{"keys": []any{members}}
		}
	}
	t.Fatalf("no key %q", kid)
	return nil
}
