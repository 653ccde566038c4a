-- Failures come by the million and are planned in their own order: only notices and returned components look for what
-- is older of the same matter.
DROP INDEX plan_by_matter;
CREATE INDEX plan_by_matter ON plan (matter_id, id) WHERE done_at IS NULL AND kind <> 'failure';

-- PostgreSQL looks up each reference of each row: of a million failures, and of the mails planned for them, a third of
-- the time. What is referred to was read by the same transaction, nothing of it is ever removed, and SQLite, where a
-- look costs next to nothing, goes on checking. An item's connection is looked up here, too: what names a connection waits
-- for whoever changes it.
ALTER TABLE signal DROP CONSTRAINT signal_component_id_fkey, DROP CONSTRAINT signal_connection_id_fkey;
ALTER TABLE plan DROP CONSTRAINT plan_signal_id_fkey, DROP CONSTRAINT plan_component_id_fkey, DROP CONSTRAINT plan_connection_id_fkey;
ALTER TABLE recovery DROP CONSTRAINT recovery_component_id_fkey, DROP CONSTRAINT recovery_connection_id_fkey;
ALTER TABLE thread DROP CONSTRAINT thread_subscriber_id_fkey;
ALTER TABLE delivery DROP CONSTRAINT delivery_lane_id_fkey, DROP CONSTRAINT delivery_subscriber_id_fkey, DROP CONSTRAINT delivery_thread_id_fkey;
ALTER TABLE delivery_item DROP CONSTRAINT delivery_item_delivery_id_fkey, DROP CONSTRAINT delivery_item_component_id_fkey, DROP CONSTRAINT delivery_item_corrects_id_fkey;
