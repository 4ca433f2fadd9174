-- +goose Up
-- Jobs whose end their CI system told: such a job gets no lease any more, whatever
-- subject token names it. An empty job_id means the whole attempt of the run and
-- those before it.
CREATE TABLE jobs_over (
  issuer     TEXT    NOT NULL,
  repository TEXT    NOT NULL,
  run        TEXT    NOT NULL,
  job_id     TEXT    NOT NULL,
  attempt    INTEGER NOT NULL,
  kept_until INTEGER NOT NULL,
  PRIMARY KEY (issuer, repository, run, job_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_over_kept ON jobs_over (kept_until);

-- +goose Down
DROP TABLE jobs_over;
