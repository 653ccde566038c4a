-- Whoever asks for an address may spell it in another case than whoever put it.
DROP INDEX subscriber_by_address;
CREATE INDEX subscriber_by_address ON subscriber (lower(address));
CREATE INDEX former_address_by_spelling ON former_address (lower(address));
CREATE INDEX suppression_by_spelling ON suppression (lower(address));
DROP INDEX archived_by_address;
CREATE INDEX archived_by_address ON archived_delivery (lower(address), created_at, id);

-- The update that named it first: one before it does not speak of it, however late that is planned.
ALTER TABLE incident_component ADD COLUMN since_revision BIGINT NOT NULL DEFAULT 0;
