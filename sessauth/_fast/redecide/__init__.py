"""Redecision of logged decisions."""
