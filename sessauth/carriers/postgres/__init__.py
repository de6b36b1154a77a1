"""PostgreSQL as the carrier of the log."""
