-- Give the name back to the view.
DROP TABLE IF EXISTS temp.reported;
