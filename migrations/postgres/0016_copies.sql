-- Copies are compressed in another way from here on: those that were deflated could not be read.
DELETE FROM mail_copy;
DELETE FROM mail_dictionary;
