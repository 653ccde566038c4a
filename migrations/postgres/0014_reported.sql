-- A source said that the component is down: asking those who have waited for the longest hold does not end its outage.
ALTER TABLE surge ADD COLUMN reported BOOLEAN NOT NULL DEFAULT FALSE;
