-- A row is a number that a paper reports, beside what a cell's winner measured.
SELECT *
FROM reported
ORDER BY results, place, cell, cell_id;
