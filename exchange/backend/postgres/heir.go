package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
)

// heirFault asks why a role cannot be the heir of the role r in this database, which is NULL where it can. What a
// lease leaves behind acts as whoever it is given to: functions that say so, and views and rules always. And an heir
// who may not have it would keep the lease from its end: for most kinds of things PostgreSQL asks that the new owner
// could have made them.
//
// pg_database_owner is whoever owns the database, and reaches no further.
func heirFault(owner string) string {
	if owner == "" {
		return "NULL"
	}
	const schema = "pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%' AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')" +
		" AND NOT pg_catalog.has_schema_privilege(h.oid, n.oid, 'CREATE')"
	return "(SELECT CASE" +
		" WHEN h.oid IS NULL THEN 'there is no such role'" +
		" WHEN EXISTS (SELECT FROM pg_catalog.pg_roles p WHERE pg_catalog.pg_has_role(h.oid, p.oid, 'MEMBER') AND (p.rolsuper OR p.rolcreaterole" +
		" OR p.rolreplication OR p.rolbypassrls OR p.rolname LIKE 'pg\\_%' AND p.rolname <> 'pg_database_owner' OR p.rolname = current_user))" +
		" THEN 'functions and views in it would act as that role, and it is, or is a member of, a superuser, one that may make roles, replicate or" +
		" pass by row security, one of PostgreSQL''s own, or the account of the exchange; name a role that holds no more than the tasks'" +
		" WHEN NOT pg_catalog.pg_has_role(h.oid, 'USAGE') THEN 'the account of the exchange is no member of it; GRANT it to the account'" +
		" WHEN pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CREATE')" +
		" AND NOT pg_catalog.has_database_privilege(h.oid, pg_catalog.current_database(), 'CREATE')" +
		" THEN 'the lease may make schemas, and it may not; GRANT CREATE ON DATABASE ' || pg_catalog.current_database() || ' to it'" +
		" WHEN EXISTS (SELECT FROM " + schema + ") THEN (SELECT 'the lease may make things in the schema ' || n.nspname || ', and it may not;" +
		" GRANT CREATE ON SCHEMA ' || n.nspname || ' to it' FROM " + schema + " ORDER BY n.nspname LIMIT 1)" +
		" END FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_roles h ON h.rolname = " + literal(owner) + ")"
}

// heirHint: it is not the account's fault when a thing cannot be given away.
func (b *Backend) heirHint() string {
	return "the role " + shown(b.owner) + ", which gets what leases leave behind, needs CREATE on every schema, and database, in which they can make things, " +
		"and the exchange's account must be a member of it"
}

// mostAtOnce is how many things are given away or dropped in one transaction where all of
// them are too many: each takes a lock or some, and a server has room for a few thousand.
const mostAtOnce = 128

// inPortions gives away or drops most of what a role owns in a database, in as many
// transactions as that takes. Nothing is left half done: what is owned can only become less.
func (b *Backend) inPortions(ctx context.Context, x *session) error {
	if _, err := x.run(ctx, member(x.role)); err != nil {
		return err
	}
	var before []string
	for most := mostAtOnce; ; {
		got, err := x.run(ctx, b.partings(x.role))
		if err != nil {
			return err
		}
		rows, err := got.rows(0, 1)
		if err != nil {
			return err
		}
		var portion []string
		for _, row := range rows[:min(len(rows), most)] {
			portion = append(portion, row[0])
		}
		if len(portion) == 0 || slices.Equal(portion, before) {
			return nil // what is left, the whole has to do with
		}
		_, err = x.run(ctx, portion...)
		switch f := (*fault)(nil); {
		case code(err) == outOfMemory && most > 1:
			most /= 2
			continue
		case b.owner != "" && errors.As(err, &f) && f.code == notPermitted:
			f.hint = b.heirHint()
		}
		if err != nil {
			return err
		}
		before = portion
	}
}

// partings asks for statements, one for each thing that a role owns of those kinds that
// somebody may have thousands of. What belongs to another thing goes with it.
func (b *Backend) partings(role string) string {
	parting, belongs := "CASE i.type WHEN 'large object' THEN 'SELECT pg_catalog.lo_unlink(' || i.identity || ')'"+
		" ELSE 'DROP ' || i.type || ' IF EXISTS ' || i.identity || ' CASCADE' END", "p.deptype IN ('i', 'e')"
	if b.owner != "" {
		parting = "'ALTER ' || i.type || ' ' || i.identity || " + literal(" OWNER TO "+identifier(b.owner))
		belongs += " OR p.deptype = 'a' AND i.type = 'sequence'"
	}
	return "SELECT " + parting + " FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid AND d.datname = pg_catalog.current_database()" +
		" CROSS JOIN LATERAL pg_catalog.pg_identify_object(s.classid, s.objid, 0) i" +
		" WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = " + oidOf(role) +
		" AND s.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass," +
		" 'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_largeobject'::pg_catalog.regclass)" +
		" AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend p WHERE p.classid = s.classid AND p.objid = s.objid AND (" + belongs + "))" +
		" LIMIT " + strconv.Itoa(mostAtOnce)
}
