"""Granted against used: what a session did with its authority, and what less would have done."""

from .session_usage import SessionUsage

__all__ = ["SessionUsage"]
