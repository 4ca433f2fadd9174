package exchange_test

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

type nobody struct{ exchange.Verifier }

func (nobody) Verify(context.Context, string) (identity.Workload, error) {
	return identity.Workload{}, nil
}

// A field that the second door forgot would be a check that it does not make.
func TestASecondDoorSharesAllButTheVerifier(t *testing.T) {
	first := &exchange.Exchange{
		Verifier: nobody{}, Policy: func() *policy.Set { return nil }, Owned: &exchange.RepositoryTasks{}, Leases: struct{ exchange.Leases }{},
		Backends: map[string]backend.Backend{}, Owners: []string{"123456"}, Jobs: map[string]exchange.Jobs{}, Checks: map[string]exchange.Checks{},
		Prove: true, Observe: struct{ exchange.Observer }{}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	one, other := reflect.ValueOf(first).Elem(), reflect.ValueOf(first.For(&nobody{})).Elem()
	for i := range one.NumField() {
		field := one.Type().Field(i)
		if !field.IsExported() || field.Name == "Verifier" {
			continue
		}
		if one.Field(i).IsZero() {
			t.Errorf("this test leaves %s out", field.Name)
		}
		if one.Field(i).IsZero() != other.Field(i).IsZero() || one.Field(i).Comparable() && !one.Field(i).Equal(other.Field(i)) {
			t.Errorf("the second door has another %s", field.Name)
		}
	}
	if _, mine := other.FieldByName("Verifier").Interface().(*nobody); !mine {
		t.Error("the second door believes what the first does")
	}
}
