"""Numbers of reasons, stages, levels and kinds, as ``proto/sessauth/v1/`` gives them.

Written out a second time on purpose: the oracle imports nothing of the implementation it judges.
"""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """The stages of a check (section 9 of the format), in their order. ``NONE``: nothing refused."""

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


class Level(IntEnum):
    """The unit of a position's index."""

    NONE = 0
    CEILING = 1
    BLOCK = 2


class Reason(IntEnum):
    """The reasons that section 9 of the format names."""

    ALLOWED = 1
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
    PROOF_REQUIRED = 90
    BAD_PROOF = 91
    REPLAYED = 92
    STALE_PROOF = 93
    PROOF_UNAVAILABLE = 94
    APPROVAL_REQUIRED = 100
    NEEDS_SERVER = 103


class Ending(IntEnum):
    """Endings of a block (3.2). Any other number is malformed."""

    SEALED = 1
    OPEN = 2
    BOUND = 3


class ProofKind(IntEnum):
    """Kinds of proofs (9.9)."""

    ED25519 = 1
    MAC = 2


class Kind(IntEnum):
    """Kinds of resource segments (5). Other numbers are unknown kinds."""

    LITERAL = 1
    ANY = 2
    PREFIX = 3
    ONE_OF = 4
    REST = 5


class Source(IntEnum):
    """Sources of a path (6.1). Other numbers are unknown kinds."""

    ARGS = 1
    SESSION = 2
    TOOL = 3
    ELEMENTS = 8


class Operator(IntEnum):
    """Operators of conditions (6.1). Other numbers are unknown kinds."""

    EQUAL = 1
    NOT_EQUAL = 2
    IN = 3
    NOT_IN = 4
    LESS = 5
    LESS_EQUAL = 6
    GREATER = 7
    GREATER_EQUAL = 8
    STARTS_WITH = 9
    GLOB = 10
    UNDER = 11
    CIDR = 12
    SUBSET_OF = 13
    PRESENT = 14
    ABSENT = 15
    NOT_STARTS_WITH = 19
    NOT_GLOB = 20
    NOT_UNDER = 21
    NOT_CIDR = 22


class Accessor(IntEnum):
    """Accessors of conditions (6.4). Other numbers but 0 (none) are unknown kinds."""

    NONE = 0
    COUNT = 1
    HOST = 2
    SCHEME = 3
    PORT = 4
    PATH = 10
    DOMAIN = 11
    LENGTH = 12


class SessionStatus(IntEnum):
    """Status of a session in a view."""

    ACTIVE = 1
    SUSPENDED = 2
    ENDED = 3


class EndCause(IntEnum):
    """Causes of a session's end."""

    ASKED = 1
    LEASE_LAPSED = 2
    EXPIRED = 3
    PARENT_ENDED = 4
    RESTORED = 5


class KeyStatus(IntEnum):
    """Status of an issuer key in a view."""

    PREPARED = 1
    ACTIVE = 2
    RETIRED = 3
    DISTRUSTED = 4


KINDS = frozenset(Kind)
SOURCES = frozenset(Source)
OPERATORS = frozenset(Operator)
ACCESSORS = frozenset(Accessor)
