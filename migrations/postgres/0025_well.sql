-- The newest time at which a component was seen well, also where it was not down: what failed before it is old news.
ALTER TABLE component ADD COLUMN well_as_of BIGINT;
-- Its customers were asked by hand against the word of a source, until that takes it back.
ALTER TABLE component ADD COLUMN overruled BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE component SET overruled = TRUE WHERE id IN (SELECT component_id FROM surge WHERE ended_at IS NULL AND reported
    AND stage = 'releasing' AND why = 'by_hand');
