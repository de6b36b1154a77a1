"""Capacity of a host: rows measured on a small folder, and formulas over them."""
