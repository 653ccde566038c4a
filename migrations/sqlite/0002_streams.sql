-- What the relay's no was about (src/domain/reply.rs).
ALTER TABLE attempt ADD COLUMN kind TEXT;

-- A stream that every mail would fail in: nothing of it leaves but one mail now and then, to find out.
CREATE TABLE stream_pause (
    id BLOB PRIMARY KEY NOT NULL,
    stream TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('our_authentication', 'our_reputation', 'credentials')),
    words TEXT NOT NULL,
    domain TEXT,
    delivery_id BLOB REFERENCES delivery (id),
    since BIGINT NOT NULL,
    probe_at BIGINT NOT NULL,
    probes BIGINT NOT NULL DEFAULT 0,
    ended_at BIGINT,
    ended_by TEXT,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE UNIQUE INDEX stream_pause_open ON stream_pause (stream) WHERE ended_at IS NULL;
CREATE INDEX stream_pause_by_stream ON stream_pause (stream, ended_at);

-- Token buckets that all nodes draw from: millionths of a mail, as of a time; and until when
-- those that found none were told to come back.
CREATE TABLE rate_bucket (
    name TEXT PRIMARY KEY NOT NULL,
    level BIGINT NOT NULL,
    at BIGINT NOT NULL,
    booked_until BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX delivery_stream_paused ON delivery (stream) WHERE state = 'queued' AND reason = 'stream_paused';
