-- Times are microseconds since 1970 (UTC); ids are UUIDv7 made by the program; states are text.
-- The CHECKs say the same as the types in src/domain: what they refuse, no hand-made update can store.

CREATE TABLE api_key (
    id UUID PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    hash BYTEA NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE api_key_scope (
    key_id UUID NOT NULL REFERENCES api_key (id),
    scope TEXT NOT NULL CHECK (scope IN ('enqueue', 'signal', 'recover_covering', 'manage', 'read', 'operate')),
    PRIMARY KEY (key_id, scope)
);

CREATE TABLE component (
    id UUID PRIMARY KEY NOT NULL,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    group_key TEXT,
    episode BIGINT NOT NULL DEFAULT 0,
    down_since BIGINT,
    up_since BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE component_dependency (
    component_id UUID NOT NULL REFERENCES component (id),
    depends_on UUID NOT NULL REFERENCES component (id),
    PRIMARY KEY (component_id, depends_on)
);

CREATE TABLE incident (
    id UUID PRIMARY KEY NOT NULL,
    key TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    phase TEXT NOT NULL,
    impact TEXT NOT NULL,
    revision BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    resolved_at BIGINT,
    created_at BIGINT NOT NULL
);

-- One outage of a component. A recovery that covers the connections says which failures it covers.
CREATE TABLE episode (
    component_id UUID NOT NULL REFERENCES component (id),
    n BIGINT NOT NULL,
    since BIGINT NOT NULL,
    ended_at BIGINT,
    covers_connections BOOLEAN NOT NULL DEFAULT FALSE,
    covers_from BIGINT,
    covers_until BIGINT,
    incident_id UUID REFERENCES incident (id),
    PRIMARY KEY (component_id, n),
    CHECK (NOT covers_connections OR (ended_at IS NOT NULL AND covers_from IS NOT NULL AND covers_until IS NOT NULL))
);

CREATE TABLE incident_component (
    incident_id UUID NOT NULL REFERENCES incident (id),
    component_id UUID NOT NULL REFERENCES component (id),
    status TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (incident_id, component_id)
);
CREATE INDEX incident_component_by_component ON incident_component (component_id);

CREATE TABLE connection (
    id UUID PRIMARY KEY NOT NULL,
    key TEXT NOT NULL UNIQUE,
    component_id UUID NOT NULL REFERENCES component (id),
    name TEXT NOT NULL,
    link TEXT,
    fault TEXT NOT NULL DEFAULT 'none' CHECK (fault IN ('none', 'recoverable', 'permanent')),
    episode BIGINT NOT NULL DEFAULT 0,
    cleared BIGINT NOT NULL DEFAULT 0 CHECK (cleared <= episode),
    own_fault_episode BIGINT NOT NULL DEFAULT 0,
    asked_episode BIGINT NOT NULL DEFAULT 0,
    failed_at BIGINT,
    broken_since BIGINT,
    well_as_of BIGINT,
    cleared_by TEXT CHECK (cleared_by IN ('automatic', 'customer', 'unknown')),
    recovering BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL,
    CHECK (episode = 0 OR failed_at IS NOT NULL)
);
CREATE INDEX connection_open ON connection (component_id, failed_at) WHERE cleared < episode;

CREATE TABLE subscriber (
    id UUID PRIMARY KEY NOT NULL,
    key TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    name TEXT,
    locale TEXT NOT NULL,
    zone TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX subscriber_by_address ON subscriber (address);

CREATE TABLE subscriber_attribute (
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (subscriber_id, name, value)
);
CREATE INDEX subscriber_attribute_by_value ON subscriber_attribute (name, value, subscriber_id);

CREATE TABLE connection_subscriber (
    connection_id UUID NOT NULL REFERENCES connection (id),
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    PRIMARY KEY (connection_id, subscriber_id)
);
CREATE INDEX connection_subscriber_by_subscriber ON connection_subscriber (subscriber_id);

-- component_id is null for somebody who wants to hear about everything.
CREATE TABLE subscription (
    id UUID PRIMARY KEY NOT NULL,
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    component_id UUID REFERENCES component (id),
    events TEXT NOT NULL DEFAULT 'all' CHECK (events IN ('all', 'begin_and_end', 'none')),
    least_impact TEXT NOT NULL DEFAULT 'none',
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE UNIQUE INDEX subscription_of_component ON subscription (component_id, subscriber_id) WHERE component_id IS NOT NULL;
CREATE UNIQUE INDEX subscription_of_everything ON subscription (subscriber_id) WHERE component_id IS NULL;
CREATE INDEX subscription_by_subscriber ON subscription (subscriber_id);

CREATE TABLE suppression (
    address TEXT NOT NULL,
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (address, class)
);

CREATE TABLE notice (
    id UUID PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('incident', 'action_required', 'free')),
    class TEXT NOT NULL,
    source TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    observed_at BIGINT NOT NULL CHECK (observed_at <= received_at),
    incident_id UUID REFERENCES incident (id),
    revision BIGINT,
    phase TEXT,
    deliver BOOLEAN NOT NULL DEFAULT TRUE,
    worse BOOLEAN NOT NULL DEFAULT FALSE,
    payload TEXT NOT NULL,
    outcome TEXT NOT NULL,
    CHECK ((kind = 'incident') = (incident_id IS NOT NULL AND revision IS NOT NULL AND phase IS NOT NULL))
);
CREATE INDEX notice_by_incident ON notice (incident_id, revision);

CREATE TABLE notice_recipient (
    notice_id UUID NOT NULL REFERENCES notice (id),
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    PRIMARY KEY (notice_id, subscriber_id)
);

CREATE TABLE signal (
    id UUID PRIMARY KEY NOT NULL,
    source TEXT NOT NULL,
    sequence BIGINT,
    received_at BIGINT NOT NULL,
    observed_at BIGINT NOT NULL CHECK (observed_at <= received_at),
    component_id UUID NOT NULL REFERENCES component (id),
    connection_id UUID REFERENCES connection (id),
    what TEXT NOT NULL CHECK (what IN ('failed', 'recovering', 'recovered', 'recovery_failed')),
    fault TEXT,
    recovered_by TEXT,
    notice_id UUID REFERENCES notice (id),
    outcome TEXT NOT NULL,
    CHECK ((what = 'recovered') = (recovered_by IS NOT NULL))
);
CREATE INDEX signal_by_connection ON signal (connection_id, id);
CREATE INDEX signal_by_component ON signal (component_id, id) WHERE connection_id IS NULL;

CREATE TABLE signal_sequence (
    source TEXT NOT NULL,
    subject_id UUID NOT NULL,
    latest BIGINT NOT NULL,
    PRIMARY KEY (source, subject_id)
);

CREATE TABLE idempotency (
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash BYTEA NOT NULL,
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (source, key)
);

-- Work for plan. `matter_id` orders it: of one matter the oldest goes first.
CREATE TABLE plan (
    id UUID PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('notice', 'failure', 'component_up')),
    matter_id UUID NOT NULL,
    notice_id UUID REFERENCES notice (id),
    signal_id UUID REFERENCES signal (id),
    component_id UUID REFERENCES component (id),
    connection_id UUID REFERENCES connection (id),
    episode BIGINT,
    component_episode BIGINT,
    failed_at BIGINT,
    cursor_list BIGINT NOT NULL DEFAULT 0,
    cursor_id UUID,
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    outcome TEXT,
    CHECK (kind <> 'failure' OR (connection_id IS NOT NULL AND episode IS NOT NULL AND component_episode IS NOT NULL AND failed_at IS NOT NULL)),
    CHECK ((done_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX plan_open ON plan (kind, id) WHERE done_at IS NULL;
CREATE INDEX plan_by_matter ON plan (matter_id, id) WHERE done_at IS NULL;
CREATE INDEX plan_by_connection ON plan (connection_id, episode) WHERE connection_id IS NOT NULL;

CREATE TABLE recovery (
    id UUID PRIMARY KEY NOT NULL,
    component_id UUID NOT NULL REFERENCES component (id),
    connection_id UUID REFERENCES connection (id),
    episode BIGINT NOT NULL,
    recovered_by TEXT NOT NULL CHECK (recovered_by IN ('automatic', 'customer', 'unknown')),
    covers_from BIGINT,
    covers_until BIGINT,
    committed_at BIGINT NOT NULL,
    confirm_by BIGINT,
    confirmed_at BIGINT,
    unconfirmed BIGINT,
    cursor_at BIGINT,
    cursor_id UUID,
    withdrawn BIGINT NOT NULL DEFAULT 0,
    corrected BIGINT NOT NULL DEFAULT 0,
    swept_at BIGINT,
    CHECK ((covers_from IS NULL) = (covers_until IS NULL)),
    CHECK (connection_id IS NOT NULL OR confirm_by IS NOT NULL OR covers_from IS NULL)
);
CREATE INDEX recovery_unswept ON recovery (id) WHERE swept_at IS NULL;
CREATE INDEX recovery_unconfirmed ON recovery (confirm_by) WHERE confirm_by IS NOT NULL AND confirmed_at IS NULL;
CREATE INDEX recovery_by_component ON recovery (component_id, id);
CREATE INDEX recovery_by_connection ON recovery (connection_id, id) WHERE connection_id IS NOT NULL;

-- What one subscriber was told about one matter; it outlives the deliveries.
CREATE TABLE thread (
    id UUID PRIMARY KEY NOT NULL,
    matter_kind TEXT NOT NULL CHECK (matter_kind IN ('incident', 'connections', 'notice')),
    matter_id UUID NOT NULL,
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    ordinal BIGINT NOT NULL DEFAULT 0,
    root TEXT NOT NULL,
    subject TEXT NOT NULL,
    sender TEXT NOT NULL,
    last_message_id TEXT,
    last_phase TEXT,
    last_class TEXT,
    last_mailed_at BIGINT,
    told_at BIGINT,
    ended_at BIGINT,
    created_at BIGINT NOT NULL,
    UNIQUE (matter_id, subscriber_id, ordinal),
    CHECK ((told_at IS NULL) = (last_mailed_at IS NULL))
);
CREATE INDEX thread_by_subscriber ON thread (subscriber_id);

-- A queue key. Fence: the component for connection notices, the incident for its updates, none for
-- corrections and proven own failures.
CREATE TABLE lane (
    id UUID PRIMARY KEY NOT NULL,
    class TEXT NOT NULL,
    fence_kind TEXT NOT NULL CHECK (fence_kind IN ('none', 'component', 'incident')),
    fence_id UUID NOT NULL,
    closed_at BIGINT,
    created_at BIGINT NOT NULL,
    UNIQUE (class, fence_kind, fence_id)
);

CREATE TABLE hold (
    id UUID PRIMARY KEY NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('everything', 'class', 'component')),
    class TEXT,
    component_id UUID REFERENCES component (id),
    cause TEXT NOT NULL CHECK (cause IN ('surge', 'operator', 'stop')),
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    created_by TEXT NOT NULL,
    released_at BIGINT,
    released_by TEXT,
    CHECK ((scope = 'class') = (class IS NOT NULL)),
    CHECK ((scope = 'component') = (component_id IS NOT NULL)),
    CHECK (cause <> 'stop' OR scope = 'everything'),
    CHECK ((released_at IS NULL) = (released_by IS NULL))
);
CREATE INDEX hold_in_force ON hold (since) WHERE released_at IS NULL;

CREATE TABLE delivery (
    id UUID PRIMARY KEY NOT NULL,
    class TEXT NOT NULL,
    stream TEXT NOT NULL,
    lane_id UUID NOT NULL REFERENCES lane (id),
    cause_id UUID NOT NULL,
    notice_id UUID REFERENCES notice (id),
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    thread_id UUID NOT NULL REFERENCES thread (id),
    resend_no BIGINT NOT NULL DEFAULT 0,
    resend_of UUID REFERENCES delivery (id),
    state TEXT NOT NULL CHECK (state IN ('queued', 'sending', 'accepted', 'failed', 'unknown', 'withdrawn',
        'folded', 'suppressed', 'cancelled', 'parked')),
    due_at BIGINT NOT NULL,
    reason TEXT,
    folded_into UUID REFERENCES delivery (id),
    token BIGINT NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until BIGINT,
    quarantine_until BIGINT,
    tries BIGINT NOT NULL DEFAULT 0,
    repeats BIGINT NOT NULL DEFAULT 0,
    reaps BIGINT NOT NULL DEFAULT 0,
    maybe_mailed BOOLEAN NOT NULL DEFAULT FALSE,
    address TEXT,
    message_id TEXT,
    template_set TEXT,
    context TEXT,
    created_at BIGINT NOT NULL,
    claimed_at BIGINT,
    decided_at BIGINT,
    UNIQUE (cause_id, subscriber_id, resend_no),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL AND owner IS NOT NULL)),
    CHECK (state <> 'sending' OR (message_id IS NOT NULL AND context IS NOT NULL AND claimed_at IS NOT NULL)),
    CHECK (quarantine_until IS NULL OR state = 'unknown'),
    CHECK (state NOT IN ('accepted', 'unknown') OR maybe_mailed),
    CHECK ((state IN ('queued', 'sending')) = (decided_at IS NULL)),
    CHECK (state IN ('queued', 'sending', 'accepted') OR reason IS NOT NULL),
    CHECK (state <> 'folded' OR folded_into IS NOT NULL)
);
CREATE INDEX delivery_due ON delivery (lane_id, due_at, id) WHERE state = 'queued';
CREATE UNIQUE INDEX delivery_busy ON delivery (thread_id)
    WHERE state = 'sending' OR (state = 'unknown' AND quarantine_until IS NOT NULL);
CREATE INDEX delivery_leased ON delivery (lease_until) WHERE state = 'sending';
CREATE INDEX delivery_quarantined ON delivery (quarantine_until) WHERE quarantine_until IS NOT NULL;
CREATE INDEX delivery_by_thread ON delivery (thread_id, id);
CREATE INDEX delivery_by_subscriber ON delivery (subscriber_id, id);
CREATE INDEX delivery_by_message_id ON delivery (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX delivery_parked ON delivery (id) WHERE state = 'parked';

-- What a delivery names: connections (with the claim about each) or components. In a correction each item
-- points at the mail it takes back; the index allows one correction per mail and connection, ever.
CREATE TABLE delivery_item (
    delivery_id UUID NOT NULL REFERENCES delivery (id),
    subject_id UUID NOT NULL,
    component_id UUID NOT NULL REFERENCES component (id),
    connection_id UUID REFERENCES connection (id),
    episode BIGINT NOT NULL DEFAULT 0,
    component_episode BIGINT NOT NULL DEFAULT 0,
    failed_at BIGINT,
    status TEXT,
    corrects_id UUID REFERENCES delivery (id),
    dropped TEXT,
    CHECK (connection_id IS NULL OR failed_at IS NOT NULL)
);
-- One index both keeps a delivery from naming a thing twice and finds its items.
CREATE UNIQUE INDEX delivery_item_once ON delivery_item (delivery_id, subject_id, (COALESCE(corrects_id, delivery_id)));
CREATE UNIQUE INDEX delivery_item_correction ON delivery_item (corrects_id, subject_id, episode) WHERE corrects_id IS NOT NULL;
CREATE INDEX delivery_item_by_connection ON delivery_item (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX delivery_item_by_failure ON delivery_item (component_id, failed_at, delivery_id)
    WHERE connection_id IS NOT NULL AND corrects_id IS NULL;

-- One try to hand a delivery to the relay; only appended.
CREATE TABLE attempt (
    id UUID PRIMARY KEY NOT NULL,
    delivery_id UUID NOT NULL REFERENCES delivery (id),
    token BIGINT NOT NULL,
    owner TEXT NOT NULL,
    ended_at BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'deferred', 'refused', 'not_handed_over', 'unknown')),
    code BIGINT,
    enhanced TEXT,
    reply TEXT,
    guarded BOOLEAN NOT NULL
);
CREATE INDEX attempt_by_delivery ON attempt (delivery_id, id);

-- A dispatching process: who holds its name's lock is its next incarnation.
CREATE TABLE node (
    name TEXT PRIMARY KEY NOT NULL,
    incarnation UUID NOT NULL,
    started_at BIGINT NOT NULL
);

-- Who did what and why; each line's hash covers the line before it.
CREATE TABLE journal (
    n BIGINT PRIMARY KEY NOT NULL,
    id UUID NOT NULL UNIQUE,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BYTEA NOT NULL
);
