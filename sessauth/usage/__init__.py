"""Granted against used authority: observations, usage records, reports and suggestions."""

from .session_usage import SessionUsage

__all__ = ["SessionUsage"]
