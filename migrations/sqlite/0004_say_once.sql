-- Say it once: why each mail is made, which revision of its incident it tells, what each thread was told, and what
-- makes two updates the same one.

ALTER TABLE delivery ADD COLUMN rule TEXT;
ALTER TABLE delivery ADD COLUMN revision BIGINT;
ALTER TABLE delivery ADD COLUMN phase TEXT;
-- What was folded under a mail of another thread comes back when that thread ends.
CREATE INDEX delivery_folded_under ON delivery (folded_into)
    WHERE state = 'folded' AND reason IN ('under_cause', 'told_elsewhere');

ALTER TABLE thread ADD COLUMN told_revision BIGINT;

-- How a component was doing when a thread was last told of it, and whether it was ever told of trouble with it.
CREATE TABLE thread_component (
    thread_id BLOB NOT NULL REFERENCES thread (id),
    component_id BLOB NOT NULL REFERENCES component (id),
    status TEXT NOT NULL,
    told_at BIGINT NOT NULL,
    was_down BOOLEAN NOT NULL,
    PRIMARY KEY (thread_id, component_id)
);

-- The source's own id of an update, and the hash of what it said: the same again is no news.
ALTER TABLE notice DROP COLUMN worse;
ALTER TABLE notice ADD COLUMN update_key TEXT;
ALTER TABLE notice ADD COLUMN content_hash BLOB;
ALTER TABLE notice ADD COLUMN reason TEXT;
ALTER TABLE notice ADD COLUMN repeats_id BLOB REFERENCES notice (id);
CREATE INDEX notice_by_update ON notice (incident_id, update_key) WHERE update_key IS NOT NULL;
CREATE INDEX notice_by_content ON notice (incident_id, content_hash) WHERE content_hash IS NOT NULL;

-- The notice whose recipients or filter its later updates keep to.
ALTER TABLE incident ADD COLUMN audience_id BLOB REFERENCES notice (id);

-- A subscription is to a component, to a group of components, or (neither) to everything.
ALTER TABLE subscription ADD COLUMN group_key TEXT;
DROP INDEX subscription_of_everything;
CREATE UNIQUE INDEX subscription_of_everything ON subscription (subscriber_id)
    WHERE component_id IS NULL AND group_key IS NULL;
CREATE UNIQUE INDEX subscription_of_group ON subscription (group_key, subscriber_id) WHERE group_key IS NOT NULL;
CREATE INDEX component_by_group ON component (group_key) WHERE group_key IS NOT NULL;
