-- Failures come by the million and are planned in their own order: only notices and returned components look for what
-- is older of the same matter.
DROP INDEX plan_by_matter;
CREATE INDEX plan_by_matter ON plan (matter_id, id) WHERE done_at IS NULL AND kind <> 'failure';

-- PostgreSQL looks up each reference of each row: of a million failures, and of the mails planned for them, a third of
-- the time. What is referred to was read by the same transaction, nothing of it is ever removed, and SQLite, where a
-- look costs next to nothing, goes on checking. An item's connection is looked up here, too: what names a connection waits
-- for whoever changes it.
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
-- (of PostgreSQL alone)
