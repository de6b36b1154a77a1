"""Logged decisions, made again."""
