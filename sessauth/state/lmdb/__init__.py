"""LMDB: environment, tables and rows."""
