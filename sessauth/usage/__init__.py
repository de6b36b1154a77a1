"""Granted against used: what a session did with its authority, and what less would have done."""

from .model import SessionUsage

__all__ = ["SessionUsage"]
