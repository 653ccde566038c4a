-- What waits for the daily cap waits no longer than the longest hold, whatever happens to its lane meanwhile.
DROP INDEX delivery_held;
CREATE INDEX delivery_held ON delivery (lane_id, due_at, id)
    WHERE state = 'queued' AND reason IN ('awaiting_reconnection', 'component_down', 'daily_cap');

-- An outage is found among a connection's hundreds, and what waits in a thread among its hundreds of mails.
DROP INDEX delivery_item_by_connection;
CREATE INDEX delivery_item_by_connection ON delivery_item (connection_id, episode) WHERE connection_id IS NOT NULL;
-- Its second condition keeps readings of the queue that name no thread from it.
CREATE INDEX delivery_waiting ON delivery (thread_id) WHERE state = 'queued' AND thread_id IS NOT NULL;
-- Lanes of incidents that are long over are closed, and asked no more.
CREATE INDEX lane_open ON lane (fence_kind, fence_id) WHERE closed_at IS NULL;

-- PostgreSQL: each mail leaves dead entries behind in the indexes of the queue. They are removed when a hundredth of a table is
-- dead, at full speed, and never left to another time because they are few beside a large table.
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- What changes no indexed column finds room for its next version on its own page.
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
