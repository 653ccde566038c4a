-- Mails put off to the end of their own longest hold: due then, even where their lane gives nothing.
CREATE INDEX delivery_held ON delivery (lane_id, due_at, id)
    WHERE state = 'queued' AND reason IN ('awaiting_reconnection', 'component_down');
