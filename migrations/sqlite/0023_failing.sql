-- The newest time at which an outage was seen to last: a recovery observed before it is old news, however late it is told.
ALTER TABLE connection ADD COLUMN failing_as_of BIGINT;
ALTER TABLE component ADD COLUMN failing_as_of BIGINT;
