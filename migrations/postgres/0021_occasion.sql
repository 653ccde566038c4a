-- What a surge was opened for: who has waited for long is asked by other rules than who newly failed.
ALTER TABLE surge ADD COLUMN occasion TEXT NOT NULL DEFAULT 'failures' CHECK (occasion IN ('failures', 'lasting', 'not_back', 'unconfirmed', 'by_hand'));
UPDATE surge SET occasion = 'lasting' WHERE reported AND counted = 0 AND opened_by = 'surge';
UPDATE surge SET occasion = 'by_hand' WHERE opened_by <> 'surge';
