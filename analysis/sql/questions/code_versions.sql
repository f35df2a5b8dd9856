-- A row is a combination of a cell and the code of the user's own that its complete trials ran.
SELECT DISTINCT cell, code
FROM trials
WHERE code IS NOT NULL AND state = 'complete'
ORDER BY ALL;
