-- A row is a file that could not be read and was left out.
CREATE OR REPLACE VIEW damaged AS
SELECT table_name, file, reason, results
FROM held.damaged;
