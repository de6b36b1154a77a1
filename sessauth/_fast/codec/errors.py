"""What is raised for bytes against the format."""

from __future__ import annotations


class FormError(ValueError):
    """Bytes against the format. ``reason`` is the number of a Reason, ``detail`` says what and where."""

    def __init__(self, reason: int, detail: str) -> None:
        """Keep both."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
