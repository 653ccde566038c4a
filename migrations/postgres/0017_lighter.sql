-- Every mail changes its row twice, and each change writes into every index of the table anew. A Message-ID begins with
-- its delivery's id, and needs none.
DROP INDEX delivery_by_message_id;
DROP INDEX archived_by_message_id;
ALTER TABLE archived_delivery DROP COLUMN message_id;

-- Nor do addresses: mail is found by whose the address is or was.
DROP INDEX delivery_by_address;
CREATE TABLE former_address (
    address TEXT NOT NULL,
    subscriber_id UUID NOT NULL REFERENCES subscriber (id),
    PRIMARY KEY (address, subscriber_id)
);
INSERT INTO former_address (address, subscriber_id)
    SELECT DISTINCT d.address, d.subscriber_id FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id
    WHERE d.address <> s.address;
CREATE FUNCTION keep_former_address() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO former_address (address, subscriber_id) VALUES (OLD.address, OLD.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER subscriber_moves AFTER UPDATE OF address ON subscriber FOR EACH ROW
    WHEN (OLD.address <> NEW.address) EXECUTE FUNCTION keep_former_address();

-- A component that works again is looked for in the incidents that are not over, which are few.
CREATE INDEX incident_open ON incident (id) WHERE resolved_at IS NULL;

-- A delivery is not looked up once more by the statement that records its outcome (compare 0011).
ALTER TABLE attempt DROP CONSTRAINT attempt_delivery_id_fkey;
ALTER TABLE mail_copy DROP CONSTRAINT mail_copy_delivery_id_fkey;
