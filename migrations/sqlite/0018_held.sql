-- While its component is down a lane gives only what has waited for the longest hold. What has met a dispatcher before, and
-- was put off for whatever reason, has a time of its own.
DROP INDEX delivery_held;
CREATE INDEX delivery_held ON delivery (lane_id, due_at, id) WHERE state = 'queued' AND reason <> 'dwell';
