-- The row counts the complete trials that shared their GPU with others.
SELECT count(*) AS trials
FROM trials
WHERE state = 'complete' AND gpu_share < 1;
