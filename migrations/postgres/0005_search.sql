-- What support looks for, and how our own queue does. Lists go by (created_at, id), newest first.

-- The incident whose thread a mail is in: found without going through a million threads.
ALTER TABLE delivery ADD COLUMN incident_id UUID REFERENCES incident (id);
UPDATE delivery SET incident_id = (SELECT t.matter_id FROM thread t WHERE t.id = delivery.thread_id AND t.matter_kind = 'incident')
    WHERE class NOT IN ('action_required', 'correction');
-- With class and state the counts of an incident or a notice are read from the index alone.
CREATE INDEX delivery_by_incident ON delivery (incident_id, created_at, id, class, state) WHERE incident_id IS NOT NULL;
CREATE INDEX delivery_by_notice ON delivery (notice_id, created_at, id, class, state) WHERE notice_id IS NOT NULL;
DROP INDEX delivery_by_subscriber;
CREATE INDEX delivery_by_subscriber ON delivery (subscriber_id, created_at, id);
-- An expression, so that no other statement that names a class is drawn to it.
CREATE INDEX delivery_by_class ON delivery (lower(class), created_at, id);
CREATE INDEX delivery_by_address ON delivery (address) WHERE address IS NOT NULL;
CREATE INDEX delivery_by_original ON delivery (resend_of) WHERE resend_of IS NOT NULL;
DROP INDEX delivery_parked;
CREATE INDEX delivery_not_sent ON delivery (state, created_at, id, reason)
    WHERE state NOT IN ('queued', 'sending', 'accepted');
-- The reason at the end makes the depth of the queue, by lane and reason, a reading of this index alone.
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (lane_id, due_at, id, reason) WHERE state = 'queued';

CREATE INDEX attempt_by_time ON attempt (ended_at, outcome);
CREATE INDEX recovery_of_component ON recovery (component_id, id) WHERE connection_id IS NULL;
CREATE INDEX hold_by_time ON hold (since);
CREATE INDEX stream_pause_by_time ON stream_pause (since);

-- The words of the relays' replies. No reference to the delivery: it would be checked at every mail, and nothing
-- looks for words by it.
CREATE TABLE reply_word (
    word TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    delivery_id UUID NOT NULL,
    PRIMARY KEY (word, created_at, delivery_id)
);
