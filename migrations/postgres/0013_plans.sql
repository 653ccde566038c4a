-- What is next is found in the order of ids, among what is not done: an index by kind first left the planners the whole table.
DROP INDEX plan_open;
CREATE INDEX plan_failures ON plan (id) WHERE kind = 'failure' AND done_at IS NULL;
CREATE INDEX plan_others ON plan (id) WHERE kind <> 'failure' AND done_at IS NULL;
