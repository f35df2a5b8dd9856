-- A row is a row of the view reported, held: five tables of a report ask for it.
CREATE OR REPLACE TEMP TABLE reported AS FROM main.reported;
