-- The newest time at which an outage was seen to last: a recovery observed before it is old news, however late it is told.
ALTER TABLE connection ADD COLUMN failing_as_of BIGINT;
ALTER TABLE component ADD COLUMN failing_as_of BIGINT;
-- Connections failed in floods when the release began, and it has been calm since: what floods now is new.
ALTER TABLE surge ADD COLUMN ceased BOOLEAN NOT NULL DEFAULT FALSE;
-- Since when its longest hold counts, where a flood came when that of its beginning was over.
ALTER TABLE surge ADD COLUMN waits_since BIGINT;
