"""The audit log: files of chained lines, signed at intervals, and what reads them (docs/audit.md)."""
