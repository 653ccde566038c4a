-- Recoveries of which nobody said how they came about: customers who were asked may have reconnected. Part of `recovered`.
ALTER TABLE failure_tally ADD COLUMN recovered_unknown BIGINT NOT NULL DEFAULT 0;
