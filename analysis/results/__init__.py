"""Results folders as a database."""
