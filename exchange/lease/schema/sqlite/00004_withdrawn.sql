-- +goose Up
-- Of a lease that ended, or began to, the credential is refused until it dies by
-- itself. Some outside systems go by a list of those. A reason is written down with
-- the first attempt to end a lease, and never before.
CREATE INDEX leases_withdrawn ON leases (backend, dies_at) WHERE reason <> '';

-- +goose Down
DROP INDEX leases_withdrawn;
