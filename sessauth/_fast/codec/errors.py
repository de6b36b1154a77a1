"""The exception for bytes that break the format."""

from __future__ import annotations


class FormError(ValueError):
    """Bytes that break the format. ``reason`` is the number of a Reason, ``detail`` the fault."""

    def __init__(self, reason: int, detail: str) -> None:
        """Store both."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
