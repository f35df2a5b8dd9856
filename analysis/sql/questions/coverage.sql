-- A row is a cell: its trials by state, in the order of the plan.
SELECT * FROM coverage ORDER BY results, position;
