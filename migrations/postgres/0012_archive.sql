-- Finished mails, moved out of the tables that dispatchers work in: what people read of each, as a document, beside what it
-- is looked for by. Threads stay: they are the memory of who was told.
CREATE TABLE archived_delivery (
    id UUID PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    subscriber_id UUID NOT NULL,
    notice_id UUID,
    incident_id UUID,
    class TEXT NOT NULL,
    state TEXT NOT NULL,
    address TEXT NOT NULL,
    message_id TEXT,
    document TEXT NOT NULL,
    archived_at BIGINT NOT NULL
);
CREATE INDEX archived_by_message_id ON archived_delivery (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX archived_by_address ON archived_delivery (address, created_at, id);
CREATE INDEX archived_by_subscriber ON archived_delivery (subscriber_id, created_at, id);
CREATE INDEX archived_by_notice ON archived_delivery (notice_id, created_at, id, class, state) WHERE notice_id IS NOT NULL;
CREATE INDEX archived_by_incident ON archived_delivery (incident_id, created_at, id, class, state) WHERE incident_id IS NOT NULL;
CREATE INDEX archived_by_class ON archived_delivery (lower(class), created_at, id);
CREATE INDEX archived_by_state ON archived_delivery (state, created_at, id);

CREATE TABLE archived_item (
    connection_id UUID NOT NULL,
    episode BIGINT NOT NULL,
    delivery_id UUID NOT NULL,
    PRIMARY KEY (connection_id, episode, delivery_id)
);

-- Whatever was folded into a mail is found by it: a mail is not moved before them.
DROP INDEX delivery_folded_under;
CREATE INDEX delivery_folded_into ON delivery (folded_into) WHERE folded_into IS NOT NULL;
CREATE INDEX stream_pause_by_delivery ON stream_pause (delivery_id) WHERE delivery_id IS NOT NULL;
