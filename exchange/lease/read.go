package lease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// ErrUnknown: there is no such lease.
var ErrUnknown = errors.New("there is no such lease")

const columns = `id, state, task, backend, granted, issuer, job, job_name, repository, run, attempt, job_id, holder, until, step,
	created_at, issue_by, ends_at, dies_at, revocable, attempts, ended_at, reason, handle`

// ByToken finds the lease that a lease token is the handle of.
func (s *Store) ByToken(ctx context.Context, token secret.String) (Lease, error) {
	l, _, err := one(ctx, s.reading(), `token_hash = ?`, hash(token))
	return l, err
}

// ByCredential finds the lease of a credential by the credential's own token.
func (s *Store) ByCredential(ctx context.Context, token secret.String) (Lease, error) {
	l, _, err := one(ctx, s.reading(), `credential_hash = ?`, hash(token))
	return l, err
}

// OfJob finds a lease that a job holds or held, by the lease's id.
func (s *Store) OfJob(ctx context.Context, job string, id backend.LeaseID) (Lease, error) {
	l, _, err := one(ctx, s.reading(), `id = ? AND job = ?`, string(id), job)
	return l, err
}

// LivesOfJob lists what a job still holds, oldest first.
func (s *Store) LivesOfJob(ctx context.Context, job string) ([]Lease, error) {
	return many(ctx, s.reading(), `job = ? AND due_at IS NOT NULL ORDER BY created_at, id`, job)
}

// Lives counts the leases that are not final, by state.
func (s *Store) Lives(ctx context.Context) (map[State]int, error) {
	rows, err := s.reading().query(ctx, `SELECT state, count(*) FROM leases WHERE due_at IS NOT NULL GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("counting live leases: %w", err)
	}
	defer rows.Close()
	counts := map[State]int{}
	for rows.Next() {
		var state State
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, fmt.Errorf("counting live leases: %w", err)
		}
		counts[state] = n
	}
	return counts, rows.Err()
}

// Claim takes up to limit leases of one backend that must be looked at by now, the
// most overdue first, and keeps others from taking them for a while. A process that
// dies with its claims loses them by time.
func (s *Store) Claim(ctx context.Context, backend string, limit int) ([]Lease, error) {
	var claimed []Lease
	now := s.now()
	err := s.transact(ctx, "claiming leases that are due", func(tx session) error {
		rows, err := tx.query(ctx, `UPDATE leases SET due_at = ? WHERE id IN (
			SELECT id FROM leases WHERE backend = ? AND due_at <= ? ORDER BY due_at LIMIT ?`+tx.skipLocked+`) RETURNING `+columns,
			now.Add(claimFor).UnixMicro(), backend, now.UnixMicro(), limit)
		if err != nil {
			return err
		}
		claimed, err = collect(rows)
		return err
	})
	return claimed, err
}

// NextDue says when the next lease of a backend must be looked at; zero when none.
func (s *Store) NextDue(ctx context.Context, backend string) (time.Time, error) {
	var at sql.NullInt64
	err := s.reading().row(ctx, `SELECT min(due_at) FROM leases WHERE backend = ? AND due_at IS NOT NULL`, backend).Scan(&at)
	if err != nil || !at.Valid {
		return time.Time{}, err
	}
	return time.UnixMicro(at.Int64), nil
}

// LiveBackends names the backends that live leases need, so that one which was
// taken out of the configuration too early is noticed.
func (s *Store) LiveBackends(ctx context.Context) ([]string, error) {
	rows, err := s.reading().query(ctx, `SELECT DISTINCT backend FROM leases WHERE due_at IS NOT NULL ORDER BY backend`)
	if err != nil {
		return nil, fmt.Errorf("listing backends in use: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("listing backends in use: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// forgetAtOnce bounds one deletion, so that forgetting never holds up issuing.
const forgetAtOnce = 1000

// Forget drops used subject tokens that no verifier would accept any more, notes
// about jobs that have none left, and leases that ended before the moment given, in
// batches. A lease whose credential has not died yet stays, since Withdrawn must name it.
// The audit log stays: it is what remains of them. It returns how many rows went.
func (s *Store) Forget(ctx context.Context, endedBefore time.Time) (int, error) {
	tokens, err := s.drop(ctx, `DELETE FROM used_tokens WHERE (issuer, jti) IN (
		SELECT issuer, jti FROM used_tokens WHERE expires_at < ? LIMIT ?)`, s.now())
	if err != nil {
		return tokens, err
	}
	over, err := s.forgetOver(ctx)
	if err != nil {
		return tokens + over, err
	}
	leases, err := s.drop(ctx, `DELETE FROM leases WHERE id IN (
		SELECT id FROM leases WHERE due_at IS NULL AND ended_at < ? AND dies_at < ? LIMIT ?)`, endedBefore, s.now())
	return tokens + over + leases, err
}

func (s *Store) drop(ctx context.Context, statement string, before ...time.Time) (int, error) {
	var args []any
	for _, at := range before {
		args = append(args, at.UnixMicro())
	}
	args = append(args, forgetAtOnce)
	total := 0
	for {
		var n int64
		err := s.transact(ctx, "forgetting what is long over", func(tx session) error {
			result, err := tx.exec(ctx, statement, args...)
			if err == nil {
				n, err = result.RowsAffected()
			}
			return err
		})
		total += int(n)
		if err != nil || n < forgetAtOnce {
			return total, err
		}
	}
}

// An AuditQuery says which entries to read; zero fields do not choose.
type AuditQuery struct {
	Lease string
	ID    string
	Limit int // at most so many, counted from the newest
}

// Audit reads entries of the audit log in the order they were written.
func (s *Store) Audit(ctx context.Context, q AuditQuery) ([]audit.Entry, error) {
	rows, err := s.reading().query(ctx,
		`SELECT id, at, event, lease, task, issuer, job, granted, rule, reason, credential FROM
		   (SELECT * FROM audit WHERE ? IN ('', lease) AND ? IN ('', id) ORDER BY seq DESC LIMIT ?) AS newest ORDER BY seq`, q.Lease, q.ID, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer rows.Close()
	var entries []audit.Entry
	for rows.Next() {
		var e audit.Entry
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Event, &e.Lease, &e.Task, &e.Issuer, &e.Job, &e.Granted, &e.Rule, &e.Reason, &e.Credential); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		e.At = time.UnixMicro(at).UTC()
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

func one(ctx context.Context, q session, where string, args ...any) (Lease, []byte, error) {
	rows, err := q.query(ctx, `SELECT `+columns+` FROM leases WHERE `+where+` `, args...)
	if err != nil {
		return Lease{}, nil, fmt.Errorf("reading a lease: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return Lease{}, nil, errors.Join(ErrUnknown, rows.Err())
	}
	return scan(rows)
}

func many(ctx context.Context, q session, where string, args ...any) ([]Lease, error) {
	rows, err := q.query(ctx, `SELECT `+columns+` FROM leases WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	return collect(rows)
}

func collect(rows *sql.Rows) ([]Lease, error) {
	defer rows.Close()
	var all []Lease
	for rows.Next() {
		l, _, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, rows.Err()
}

func scan(rows *sql.Rows) (Lease, []byte, error) {
	var l Lease
	var created, issueBy, endsAt, diesAt int64
	var ended sql.NullInt64
	var sealed []byte
	err := rows.Scan(&l.ID, &l.State, &l.Task, &l.Backend, &l.Granted, &l.Issuer, &l.Job, &l.JobName, &l.Repository, &l.Run, &l.Attempt, &l.JobID, &l.Holder, &l.Until, &l.Step,
		&created, &issueBy, &endsAt, &diesAt, &l.Revocable, &l.Attempts, &ended, &l.Reason, &sealed)
	if err != nil {
		return Lease{}, nil, fmt.Errorf("reading a lease: %w", err)
	}
	l.Created, l.IssueBy = time.UnixMicro(created).UTC(), time.UnixMicro(issueBy).UTC()
	l.EndsAt, l.DiesAt = time.UnixMicro(endsAt).UTC(), time.UnixMicro(diesAt).UTC()
	if ended.Valid {
		l.Ended = time.UnixMicro(ended.Int64).UTC()
	}
	return l, sealed, nil
}
