-- +goose Up
-- Times are microseconds since 1970, UTC. A lease row is also the work item of
-- its own ending: due_at says when the keeper must look at it next.
CREATE TABLE leases (
  id              TEXT    PRIMARY KEY,
  state           TEXT    NOT NULL,
  task            TEXT    NOT NULL,
  backend         TEXT    NOT NULL,
  granted         TEXT    NOT NULL,             -- the scope in words
  issuer          TEXT    NOT NULL,
  job             TEXT    NOT NULL,             -- identity.Job.Key
  job_name        TEXT    NOT NULL,
  repository      TEXT    NOT NULL,
  run             TEXT    NOT NULL,
  attempt         INTEGER NOT NULL,
  job_id          TEXT    NOT NULL,             -- the issuer's own id of the job
  holder          TEXT    NOT NULL,             -- thumbprint of the key that asked, empty for none
  created_at      INTEGER NOT NULL,
  issue_by        INTEGER NOT NULL,
  ends_at         INTEGER NOT NULL,
  dies_at         INTEGER NOT NULL,
  revocable       INTEGER NOT NULL,
  due_at          INTEGER,                      -- NULL once the lease is final
  attempts        INTEGER NOT NULL DEFAULT 0,
  ended_at        INTEGER,
  reason          TEXT    NOT NULL DEFAULT '',  -- why it ended or is ending
  token_hash      BLOB    UNIQUE,               -- SHA-256 of the lease token
  credential_hash BLOB,                         -- SHA-256 of the credential's own token
  handle          BLOB                          -- sealed; NULL again once the lease is final
) STRICT;
CREATE INDEX leases_due        ON leases (backend, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX leases_job        ON leases (job, task);
CREATE INDEX leases_run        ON leases (issuer, run)     WHERE due_at IS NOT NULL;
CREATE INDEX leases_credential ON leases (credential_hash) WHERE credential_hash IS NOT NULL;

-- One subject token, one exchange.
CREATE TABLE used_tokens (
  issuer     TEXT    NOT NULL,
  jti        TEXT    NOT NULL,
  lease      TEXT    NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (issuer, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_tokens_lease   ON used_tokens (lease);
CREATE INDEX used_tokens_expires ON used_tokens (expires_at);

CREATE TABLE audit (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT    NOT NULL UNIQUE,
  at         INTEGER NOT NULL,
  event      TEXT    NOT NULL,
  lease      TEXT    NOT NULL,
  task       TEXT    NOT NULL,
  issuer     TEXT    NOT NULL,
  job        TEXT    NOT NULL,
  granted    TEXT    NOT NULL,
  rule       TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  credential TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_lease ON audit (lease);

-- Nobody rewrites what was written down, we neither.
-- +goose StatementBegin
CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit;
DROP TABLE used_tokens;
DROP TABLE leases;
