"""The rows that are measured against a server process."""
