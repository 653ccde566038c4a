-- Copies are compressed in another way from here on: those that were deflated could not be read.
-- What their mails were made of goes with them, as when they go by age.
UPDATE delivery SET context = NULL WHERE decided_at IS NOT NULL AND quarantine_until IS NULL
    AND id IN (SELECT delivery_id FROM mail_copy);
DELETE FROM mail_copy;
DELETE FROM mail_dictionary;
