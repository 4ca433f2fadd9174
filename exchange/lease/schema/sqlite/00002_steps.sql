-- +goose Up
-- A lease may end with a step of its job, where that is seen.
ALTER TABLE leases ADD COLUMN until TEXT    NOT NULL DEFAULT 'job'; -- job, step or this_step
ALTER TABLE leases ADD COLUMN step  INTEGER NOT NULL DEFAULT 0;     -- its number; 0: not known yet; -1: it ends with its job after all
CREATE INDEX leases_step ON leases (issuer) WHERE due_at IS NOT NULL AND until <> 'job' AND step >= 0;

-- +goose Down
DROP INDEX leases_step;
ALTER TABLE leases DROP COLUMN step;
ALTER TABLE leases DROP COLUMN until;
