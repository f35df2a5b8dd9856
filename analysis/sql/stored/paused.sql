-- A row is a trial that gave up its slot and waits with a checkpoint: its row so far.
-- Stands for a folder without files, and gives old files the columns added since.
CREATE TABLE empty.paused AS FROM empty.trials;
