"""The operators and accessors of conditions, as numbers and as words."""

from __future__ import annotations

from enum import IntEnum


class Operator(IntEnum):
    """The relation of a condition; the numbers of ``token.proto``."""

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


class Accessor(IntEnum):
    """The part of a value that is compared; the numbers of ``token.proto``."""

    NONE = 0
    COUNT = 1
    HOST = 2
    SCHEME = 3
    PORT = 4


OPERATOR_WORDS = {
    "==": Operator.EQUAL,
    "!=": Operator.NOT_EQUAL,
    "in": Operator.IN,
    "not in": Operator.NOT_IN,
    "<": Operator.LESS,
    "<=": Operator.LESS_EQUAL,
    ">": Operator.GREATER,
    ">=": Operator.GREATER_EQUAL,
    "starts_with": Operator.STARTS_WITH,
    "glob": Operator.GLOB,
    "under": Operator.UNDER,
    "cidr": Operator.CIDR,
    "subset_of": Operator.SUBSET_OF,
    "present": Operator.PRESENT,
    "absent": Operator.ABSENT,
}
WORDS = {int(operator): word for word, operator in OPERATOR_WORDS.items()}
ACCESSOR_WORDS = {
    "count": Accessor.COUNT,
    "host": Accessor.HOST,
    "scheme": Accessor.SCHEME,
    "port": Accessor.PORT,
}
ACCESSORS = {int(accessor): word for word, accessor in ACCESSOR_WORDS.items()}
LIST_ONLY = (Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF)
EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL, *LIST_ONLY)
