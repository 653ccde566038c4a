-- What was mailed, exactly, and what it was made of. All three are content-addressed or keyed by delivery, and go by
-- age: whoever uses a set or a dictionary notes it here every hour, and none goes before the last copy that needs it.

-- A set of templates: its sources as a JSON object by name.
CREATE TABLE template_set (
    hash TEXT PRIMARY KEY NOT NULL,
    sources TEXT NOT NULL,
    first_used_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);

-- What copies were deflated against (RFC 1951 with a preset dictionary): sample mails of a set.
CREATE TABLE mail_dictionary (
    hash BYTEA PRIMARY KEY NOT NULL,
    bytes BYTEA NOT NULL,
    used_at BIGINT NOT NULL
);

-- The bytes that the relay most probably has. No reference to the dictionary: it would be looked for here at every
-- removal of one, without an index that serves nothing else.
CREATE TABLE mail_copy (
    delivery_id UUID PRIMARY KEY NOT NULL REFERENCES delivery (id),
    dictionary BYTEA NOT NULL,
    bytes BYTEA NOT NULL,
    sha256 BYTEA NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'deferred', 'refused', 'unknown')),
    stored_at BIGINT NOT NULL
);
CREATE INDEX mail_copy_by_age ON mail_copy (stored_at);
