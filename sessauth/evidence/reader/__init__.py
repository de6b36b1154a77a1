"""Verifies evidence packs by docs/evidence.md and docs/audit.md alone.

An independent reading: standard library and PyNaCl. It shares no code with the kernel or the audit log's
writer, and runs without the rest of the package too.
"""
