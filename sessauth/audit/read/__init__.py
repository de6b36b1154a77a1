"""Reading and searching the audit log."""
