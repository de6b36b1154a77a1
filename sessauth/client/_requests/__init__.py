"""Descriptions of calls: their requests, and how their answers are read."""
