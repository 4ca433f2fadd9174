package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// roles makes roles for one test.
func (s *scene) roles(statements string, names ...string) {
	s.Helper()
	s.Cleanup(func() {
		for _, name := range names {
			if err := s.as(context.Background(), "app", "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
				s.Error(err)
			}
		}
	})
	if err := s.as(s.Context(), "app", "CREATE ROLE "+strings.Join(names, "; CREATE ROLE ")+";"+statements); err != nil {
		s.Fatal(err)
	}
}

// What a lease leaves behind acts as its heir. One who reaches further than tasks do, or
// who may not have it, is found out before there is anything to leave.
func TestAnUnfitHeirIsFoundBeforeALeaseIsMade(t *testing.T) {
	s := stage(t, choice{})
	s.roles("GRANT mighty, maker, reader, deputy, poor, by_another TO stepkey; ALTER ROLE mighty SUPERUSER; ALTER ROLE maker CREATEROLE;"+
		"GRANT pg_read_all_data TO reader; GRANT maker TO by_another; GRANT CREATE ON SCHEMA public TO mighty, maker, reader, alone, by_another;"+
		"REVOKE deputy FROM stepkey; GRANT stepkey TO deputy",
		"mighty", "maker", "reader", "deputy", "poor", "alone", "by_another")
	for owner, says := range map[string]string{
		"mighty":     "a superuser",
		"maker":      "one that may make roles",
		"by_another": "one that may make roles",
		"reader":     "one of PostgreSQL's own",
		"deputy":     "the account of the exchange; name a role",
		"alone":      "is no member of it; GRANT it to the account",
		"poor":       "GRANT CREATE ON SCHEMA public to it",
		"missing":    "there is no such role",
	} {
		with := stage(t, choice{owner: owner})
		_, err := with.Issue(t.Context(), with.order(asMigrator))
		if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v; want …%s…, and that nothing was created", owner, err, says)
		}
	}
	id, _ := stage(t, choice{owner: "poor"}).issue("{database: app, grants: [" + customer + "]}")
	s.end(id) // which may make nothing, so that there is nothing to get
	s.nothingLeft()
}

func TestAHeirThatMayNotHaveAThingIsNamed(t *testing.T) {
	s := stage(t, choice{owner: "heir"})
	s.roles("GRANT heir TO stepkey; GRANT CREATE ON SCHEMA public TO heir", "heir")
	id, made := s.issue(asMigrator)
	s.must(s.login(made), "SET ROLE NONE", "CREATE FUNCTION bequeathed() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	if err := s.as(t.Context(), "app", "REVOKE CREATE ON SCHEMA public FROM heir"); err != nil {
		t.Fatal(err)
	}
	err := s.Revoke(t.Context(), id, made.Handle)
	if err == nil || !strings.Contains(err.Error(), "the role heir, which gets what leases leave behind, needs CREATE") || strings.Contains(err.Error(), "that the task needs") {
		t.Errorf("%v", err)
	}
	if err := s.as(t.Context(), "app", "GRANT CREATE ON SCHEMA public TO heir"); err != nil {
		t.Fatal(err)
	}
	s.end(id)
	s.gone(id)
	if n := s.number("app", "SELECT count(*) FROM pg_proc WHERE proname = 'bequeathed' AND proowner = 'heir'::regrole"); n != 1 {
		t.Errorf("it is not the heir's")
	}
}

func TestMoreThingsThanOneTransactionCanLockGoInPortions(t *testing.T) {
	p, err := setUp(t.Context(), append(pgserver.Settings{"max_connections=20", "max_locks_per_transaction=10"}, pgserver.Quick...))
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, drop := range []bool{true, false} { // what is given away stays in the database that both have
		t.Run(map[bool]string{true: "dropped", false: "given away"}[drop], func(t *testing.T) {
			s := p.scene(t, choice{drop: drop, direct: true})
			id, made := s.issue(asMigrator)
			c := s.login(made)
			s.must(c, "SET ROLE NONE", "SELECT count(lo_create(0)) FROM generate_series(1, 1200)")
			for i := range 60 {
				one := fmt.Sprintf("\"many Of'them%d\"", i)
				s.must(c, "CREATE TABLE "+one+" (id serial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY, words text);"+
					"CREATE VIEW "+one[:len(one)-1]+" seen\" AS SELECT id FROM "+one+"; CREATE TYPE "+one[:len(one)-1]+" mood\" AS ENUM ('sad');"+
					"CREATE FUNCTION "+one+"("+one+") RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN "+one[:len(one)-1]+" d\" AS int;"+
					"CREATE TYPE "+one[:len(one)-1]+" r\" AS RANGE (subtype = int); CREATE SEQUENCE "+one[:len(one)-1]+" s\"")
			}
			if err := s.Revoke(t.Context(), id, secret.String{}); err != nil {
				t.Fatal(err)
			}
			s.gone(id)
			want := map[bool]int{true: 0, false: 60}[drop]
			if n := s.number("app", "SELECT count(*) FROM pg_class WHERE relname LIKE 'many%' AND relkind = 'r'"); n != want {
				t.Errorf("%d tables are left, want %d", n, want)
			}
			if n := s.number("app", "SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = 'migrator'::regrole"); n != 20*want {
				t.Errorf("%d large objects are migrator's, want %d", n, 20*want)
			}
		})
	}
}
