"""Random grants, random calls judged by the kernel, and what a session makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.scopes.parts import Segment
from sessauth.scopes.scope import Scope
from sessauth.usage import records
from sessauth.usage.profile import CEILING, GrantLayer
from sessauth.usage.session_usage import SessionUsage
from tests.support.scope_strategies import CLEAN, NAMES, NUMBERS, TEXTS, actions, conditions, paths, segments

FACTS = [
    {"name": "level", "value": {"number": {"units": 1}}, "visible": True},
    {"name": "who", "value": {"text": "a"}, "visible": True},
    {"name": "yes", "value": {"truth": True}, "visible": True},
]
LEAVES = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(CLEAN),
    st.sampled_from([float(n) for n in NUMBERS]),
    st.booleans(),
    st.none(),
    st.sampled_from([1e300, 0.25, {}, [], "x" * 300, 'q"\n', "é/ü", "http://a/c", "a/../b"]),
)
VALUES = st.one_of(
    LEAVES,
    LEAVES,
    st.lists(st.one_of(st.sampled_from(TEXTS), st.integers(0, 3)), max_size=3),
    st.dictionaries(st.sampled_from((*NAMES, "", "c.d")), LEAVES, max_size=2),
    st.lists(st.dictionaries(st.sampled_from((*NAMES, "", "c.d")), LEAVES, max_size=2), max_size=2),
    st.lists(st.one_of(LEAVES, st.lists(LEAVES, max_size=2), st.just({"a": [{"b": "x"}]})), max_size=2),
)
SEGMENTS = st.sampled_from(("a", "b", "ab", "abc", "x", "é"))


# Bounds that a few calls reach.
SMALL = {
    **{"MAX_VALUES": 2, "MAX_VALUES_BYTES": 6, "MAX_PREFIX_BYTES": 3, "MAX_HOSTS": 1, "MAX_PATHS": 3},
    **{"MAX_RESOURCES": 3, "MAX_KINDS": 6, "MAX_GROUPS": 3, "MAX_ROWS": 3, "MAX_POSITIONS": 4},
    **{"MAX_TOKENS": 2, "MAX_MINTED_LAYERS": 1, "MAX_DENIED_ROWS": 1},
}


@contextmanager
def bounded(small: bool) -> Iterator[None]:
    """Have the bounds of usage as they are, or so small that a few calls reach them."""
    with patch.multiple(records, **SMALL) if small else nullcontext():
        yield


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as text and as the kernel takes it."""

    action: str
    resource: str
    arguments: bytes

    def is_permitted(self, scopes: Sequence[Scope], facts: list[dict[str, Any]] = FACTS) -> bool:
        """Ask the kernel whether a list of scopes permits it."""
        call = (self.action.encode(), self.resource.encode(), self.arguments)
        return any(codec.matches(scope.encode(), *call, facts=facts)[0] for scope in scopes)


CALLS = st.builds(
    Call,
    st.sampled_from(("read", "read", "write", "other")),
    # Often one, so that some kind of call is made many times.
    st.one_of(st.just("a"), st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)),
    st.dictionaries(st.sampled_from((*NAMES, "c")), VALUES, max_size=3).map(lambda d: json.dumps(d).encode()),
)


@st.composite
def grants(draw: st.DrawFn) -> list[Scope]:
    """Give a layer of one to three scopes, wide enough that some calls are permitted."""
    return [draw(_wide_scope()) for _ in range(draw(st.integers(1, 3)))]


@st.composite
def _wide_scope(draw: st.DrawFn) -> Scope:
    wide = draw(st.booleans())
    resource = [] if wide else draw(st.lists(segments, min_size=1, max_size=2))
    if wide or draw(st.booleans()):
        resource.append(Segment.rest())
    free_all = draw(st.integers(0, 3)) > 0
    free = [] if free_all else draw(st.lists(paths.filter(lambda p: p.source == 1), max_size=3, unique=True))
    where = draw(st.lists(conditions(), max_size=draw(st.sampled_from((0, 0, 1, 1, 2)))))
    scope = Scope(draw(actions), tuple(resource), tuple(where), tuple(free), free_all)
    return scope.needing(uses=draw(st.integers(1, 3))) if draw(st.integers(0, 5)) == 0 else scope


def used(scopes: Sequence[Scope], calls: Sequence[Call]) -> tuple[GrantLayer, SessionUsage, list[Call]]:
    """Return the layer, what a session used of it with those calls, and the calls that were allowed."""
    layer, usage, allowed = GrantLayer(CEILING, scopes), SessionUsage(), []
    for at_ms, call in enumerate(calls, start=1000):
        if call.is_permitted(scopes):
            allowed.append(call)
            found = layer.matching_positions(call.action, call.resource, call.arguments)
            usage.observe(call.action, call.resource, call.arguments, at_ms=at_ms, matched=found)
    return layer, usage, allowed
