-- Who ended an outage of a connection is looked up by the outage: a connection may have had thousands.
CREATE INDEX recovery_by_outage ON recovery (connection_id, episode, id) WHERE connection_id IS NOT NULL;
