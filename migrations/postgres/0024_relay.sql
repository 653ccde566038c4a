-- Relays that a node could not reach when it last tried, because mails waited for them.
CREATE TABLE relay_trouble (
    relay TEXT NOT NULL,
    node TEXT NOT NULL,
    since BIGINT NOT NULL,
    tried_at BIGINT NOT NULL,
    words TEXT NOT NULL,
    PRIMARY KEY (relay, node)
);
