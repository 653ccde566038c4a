-- Surges: floods of permanent failures of one component, and what is decided about them.

-- Failures and recoveries of each component by the minute in which they came in: a surge is seen by these few rows,
-- never by a look at the connections. A connection counts once in a short window (`failed`) and once in a long one.
CREATE TABLE failure_tally (
    component_id UUID NOT NULL REFERENCES component (id),
    minute BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    failed_slow BIGINT NOT NULL,
    recovered BIGINT NOT NULL,
    first_at BIGINT,
    PRIMARY KEY (component_id, minute)
);
CREATE INDEX failure_tally_by_minute ON failure_tally (minute);
-- What came in before this counts as well: a busy provider would else have no normal.
INSERT INTO failure_tally (component_id, minute, failed, failed_slow, recovered, first_at)
    SELECT component_id, received_at / 60000000, COUNT(DISTINCT connection_id), COUNT(DISTINCT connection_id), 0, MIN(observed_at)
    FROM signal WHERE outcome = 'waiting' AND connection_id IS NOT NULL GROUP BY component_id, received_at / 60000000;

-- `normal` and `normal_recovered` are in thousandths; `component_id` is null when the reports themselves are suspect.
CREATE TABLE surge (
    id UUID PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('flood', 'slow', 'reporter')),
    component_id UUID REFERENCES component (id),
    opened_at BIGINT NOT NULL,
    opened_by TEXT NOT NULL,
    because TEXT NOT NULL,
    since BIGINT NOT NULL,
    counted BIGINT NOT NULL,
    normal BIGINT NOT NULL,
    minutes BIGINT NOT NULL,
    normal_recovered BIGINT NOT NULL,
    connections BIGINT NOT NULL,
    episode BIGINT,
    hold_id UUID REFERENCES hold (id),
    stage TEXT NOT NULL CHECK (stage IN ('holding', 'canary', 'releasing', 'over')),
    stage_at BIGINT NOT NULL,
    why TEXT NOT NULL,
    until BIGINT,
    flooding BOOLEAN NOT NULL DEFAULT FALSE,
    ended_at BIGINT,
    CHECK ((kind = 'reporter') = (component_id IS NULL)),
    CHECK ((stage = 'over') = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX surge_open ON surge (component_id) WHERE ended_at IS NULL AND component_id IS NOT NULL;
CREATE UNIQUE INDEX surge_open_of_reporter ON surge (kind) WHERE ended_at IS NULL AND component_id IS NULL;
CREATE INDEX surge_by_component ON surge (component_id, opened_at);
CREATE INDEX surge_by_time ON surge (opened_at);

-- What operators' own systems are told; tried until they take it.
CREATE TABLE alert (
    id UUID PRIMARY KEY NOT NULL,
    surge_id UUID NOT NULL REFERENCES surge (id),
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    tries BIGINT NOT NULL DEFAULT 0,
    done_at BIGINT,
    said TEXT
);
CREATE INDEX alert_due ON alert (due_at) WHERE done_at IS NULL;
CREATE INDEX alert_by_surge ON alert (surge_id);

-- The mails that go ahead of the others when a surge is released.
ALTER TABLE delivery ADD COLUMN canary_id UUID REFERENCES surge (id);
CREATE INDEX delivery_canary ON delivery (canary_id) WHERE canary_id IS NOT NULL;

-- An outage that was given up though nobody said that it is over: its customers are asked.
ALTER TABLE episode ADD COLUMN released_at BIGINT;

CREATE INDEX connection_recoverable ON connection (failed_at)
    WHERE fault = 'recoverable' AND cleared < episode AND asked_episode < episode;
