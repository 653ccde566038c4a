-- Resends: a correction can be sent again, though each mail is taken back only once; a failed batch is found by
-- index, and what was sent again already is left out of it.

ALTER TABLE delivery_item ADD COLUMN resend_no BIGINT NOT NULL DEFAULT 0;
DROP INDEX delivery_item_correction;
CREATE UNIQUE INDEX delivery_item_correction ON delivery_item (corrects_id, subject_id, episode, resend_no)
    WHERE corrects_id IS NOT NULL;

CREATE INDEX delivery_undelivered ON delivery (id) WHERE state IN ('failed', 'suppressed', 'parked', 'unknown');
