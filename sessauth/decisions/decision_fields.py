"""The attributes of every decision, made in this process or by a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..reasons import Reason, Stage


class DecisionFields:
    """Types of a decision's attributes; a subclass supplies the values.

    ``index``, ``scope`` and ``clause`` are -1, ``argument`` is empty, where they don't apply.
    Of an allow they are set where a ceiling in observe mode would have refused it.
    ``matched_index`` and ``matched_scope`` are -1 for a denial, and for an allow of the token alone
    (``Verifier.stands``), which is of no call. ``session_id`` and ``block_ids`` are empty until the signature
    is verified. ``expires_at_ms`` is the earliest moment, in ms since 1970, at which the answer can stop
    being true by time alone.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def allowed(self) -> bool: ...  # noqa: D102
        @property
        def reason(self) -> Reason: ...  # noqa: D102
        @property
        def stage(self) -> Stage: ...  # noqa: D102
        @property
        def level(self) -> int: ...  # noqa: D102
        @property
        def index(self) -> int: ...  # noqa: D102
        @property
        def scope(self) -> int: ...  # noqa: D102
        @property
        def clause(self) -> int: ...  # noqa: D102
        @property
        def argument(self) -> str: ...  # noqa: D102
        @property
        def matched_index(self) -> int: ...  # noqa: D102
        @property
        def matched_scope(self) -> int: ...  # noqa: D102
        @property
        def session_id(self) -> bytes: ...  # noqa: D102
        @property
        def epoch(self) -> int: ...  # noqa: D102
        @property
        def block_ids(self) -> tuple[bytes, ...]: ...  # noqa: D102
        @property
        def revision(self) -> int: ...  # noqa: D102
        @property
        def view_age_ms(self) -> int: ...  # noqa: D102
        @property
        def expires_at_ms(self) -> int: ...  # noqa: D102
        @property
        def decision_id(self) -> bytes: ...  # noqa: D102

        def __bool__(self) -> bool: ...
