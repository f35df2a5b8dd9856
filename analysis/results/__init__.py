"""Results folders as a database.

A location (`location.py`) is a folder or a bucket's address, whose objects are copied
(`bucket.py`, `bucket_mirror.py`). `database.py` opens folders: it makes the views of `sql_files.py`
over the tables that `table_files.py` reads, and `rows` asks this package's own queries.
`query.py` answers a user's SQL.
"""
