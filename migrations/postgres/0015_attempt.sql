-- A claim leaves one attempt. The rule is the index's: whoever asked for an earlier one first was at the mercy of the planner.
DELETE FROM attempt WHERE EXISTS
    (SELECT 1 FROM attempt first WHERE first.delivery_id = attempt.delivery_id AND first.token = attempt.token AND first.id < attempt.id);
CREATE UNIQUE INDEX attempt_by_claim ON attempt (delivery_id, token);
DROP INDEX attempt_by_delivery;
