-- A row is a trial that gave up its slot and waits with a checkpoint: its columns so far.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.paused AS FROM empty.trials;
