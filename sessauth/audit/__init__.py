"""The audit log: files of chained lines, signed at intervals (docs/audit.md)."""
