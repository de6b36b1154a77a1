"""Decisions: their attributes, explanations and verdicts."""
