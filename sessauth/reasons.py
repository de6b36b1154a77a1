"""Names of decisions and surveys: the one list for docs, metrics, CLI and wire.

The numbers equal those of ``authorization_service.proto`` and of the kernel's tables; a test holds
the three together. ``docs/reasons.md`` has a paragraph for each reason.
"""

from __future__ import annotations

from enum import IntEnum


class Word(IntEnum):
    """A word with its number: printed as the word, equal to the number, a number in JSON.

    ``f"{reason}"`` and ``str(reason)`` give ``OUT_OF_SCOPE``, ``f"{reason:d}"`` and ``int(reason)`` 80.
    """

    def __str__(self) -> str:
        """Return the word."""
        return self.name

    def __format__(self, spec: str) -> str:
        """Format the word, or with a type of integers the number."""
        return (
            int.__format__(self, spec) if spec[-1:] in "bcdoxXn" and spec else str.__format__(self.name, spec)
        )


class Stage(Word):
    """The stages of a check, in their order (``docs/token-format.md``, section 9)."""

    NONE = 0
    DECODE = 1
    SESSION = 2
    ISSUER = 3
    SIGNATURE = 4
    TIME = 5
    AUDIENCE = 6
    REVOCATION = 7
    SCOPE = 8
    PROOF = 9
    NEEDS = 10


class Level(Word):
    """The things that the index of a position counts."""

    NONE = 0
    CEILING = 1
    BLOCK = 2


class SurveyVerdict(Word):
    """A survey's verdict on a call that a token could make. Only ``YES`` is true as a bool."""

    UNSPECIFIED = 0
    YES = 1
    NO = 2
    # It depends on the arguments, on a proof, or on the costs of the call.
    MAYBE = 3

    def __bool__(self) -> bool:
        """Return True for YES."""
        return self is SurveyVerdict.YES


class Reason(Word):
    """The reason of a decision. Only ``ALLOWED`` is a yes."""

    UNSPECIFIED = 0
    ALLOWED = 1
    INTERNAL_ERROR = 2
    AUDIT_UNAVAILABLE = 3

    MALFORMED_TOKEN = 10
    TOKEN_TOO_LARGE = 11
    UNSUPPORTED_VERSION = 12
    OPEN_TOKEN = 13
    CHAIN_TOO_LONG = 14

    UNKNOWN_SESSION = 20
    SESSION_ENDED = 21
    SESSION_SUSPENDED = 22
    LEASE_LAPSED = 23
    WRONG_SESSION = 24
    STALE_STATE = 25
    SESSION_EXPIRED = 26
    STATE_BRAKED = 27

    UNKNOWN_ISSUER = 30
    ISSUER_RETIRED = 31
    ISSUER_NOT_OF_SESSION = 32
    ISSUER_DISTRUSTED = 33
    ISSUER_PREPARED = 34

    BAD_SIGNATURE = 40

    EXPIRED = 50
    NOT_YET_VALID = 51
    CLOCK_SUSPECT = 52

    WRONG_AUDIENCE = 60
    WRONG_SOURCE = 61
    WRONG_PEER = 62

    REVOKED = 70

    OUT_OF_SCOPE = 80
    CONDITION_FAILED = 81
    UNKNOWN_KIND = 82
    MALFORMED_REQUEST = 83
    UNKNOWN_TOOL = 84

    PROOF_REQUIRED = 90
    BAD_PROOF = 91
    REPLAYED = 92
    STALE_PROOF = 93
    PROOF_UNAVAILABLE = 94

    APPROVAL_REQUIRED = 100
    USES_EXHAUSTED = 101
    BUDGET_EXHAUSTED = 102
    NEEDS_SERVER = 103
    BAD_APPROVAL = 104
    APPROVAL_DENIED = 105
    BAD_PERMIT = 106
