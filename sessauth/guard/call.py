"""One tool call as a guard checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Any, Final, Self, TypedDict

from ..decisions.decision import DecisionBase
from ..decisions.outward import Outward, outward
from ..decisions.tool_catalog import ToolCatalog
from ..errors import SessauthError, UsageError
from ..reasons import Reason
from ..scopes.call_arguments import Arguments, canonical, encode
from ..tokens.token import Token

AnyToken = Token | str | bytes

# About 10 MB. A call that is repeated after so many others counts as one that was never started.
MAX_STARTED: Final = 65_536


class CallTerms(TypedDict, total=False):
    """Facts about one call, beside the tool and its arguments.

    Attributes:
        token: the token that the call came with. Empty: it came with none, and is denied. Left out: the
            guard's own token.
        proof: the holder's proof of this call. Left out: made by the guard's prover, if it has one.
        call_id: the framework's id of this attempt. A call that is repeated under it is charged once until
            its tool is started; from then on, in this process, it is another run. It must not be chosen by
            the agent.
        interrupts: exceptions that a tool raises to be called again later by the framework. A run that ends
            with one does not count as a run: the call that continues it is not charged again.
        origin: the name of the MCP server that the tool is of, as the framework knows it. Left out: it is the
            program's own.
        source: the agent's IP address.
        peer: the identities of the agent's certificate.
        session: the id of the session that the token must be of, 16 bytes.
    """

    token: AnyToken
    proof: bytes | str
    call_id: str
    interrupts: tuple[type[BaseException], ...]
    origin: str
    source: str
    peer: Sequence[str]
    session: bytes


@dataclass(slots=True)
class ToolCall:
    """A call that the catalogue knows, with the exact bytes that are checked.

    ``proof_made`` is True if the guard's own prover made the proof, and can make another.
    """

    tool: str
    token: AnyToken
    action: str
    resource: str
    arguments: bytes
    options: dict[str, Any]
    interrupts: tuple[type[BaseException], ...] = ()
    proof: bytes | str = b""
    proof_made: bool = False
    retry_id: bytes = b""

    @property
    def request(self) -> tuple[AnyToken, str, str, bytes]:
        """The parameters of ``check`` and ``commit``."""
        return self.token, self.action, self.resource, self.arguments


def judged_bytes(arguments: Arguments) -> bytes:
    """Return the bytes that are checked for ``arguments``: their canonical form, ``{}`` for none.

    Raises UsageError or TypeError for values that JSON has no form for.
    """
    if not arguments:
        return b"{}"
    return canonical(arguments) if isinstance(arguments, bytes | str) else encode(arguments)


def retry_id_of(call_id: str, tool: str, arguments: bytes) -> bytes:
    """Return the 32-byte retry id of a call: another call under the same ``call_id`` has another one."""
    if not call_id:
        return b""
    parts = (call_id.encode("utf-8", "surrogatepass"), tool.encode("utf-8", "surrogatepass"), arguments)
    hashed = blake2b(digest_size=32, person=b"sessauth call id")
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()


class StartedCalls:
    """The retry ids of the newest calls whose tools were started. An empty id is not stored.

    After its tool was started, the same call under the same id is another run.
    """

    def __init__(self, most: int = MAX_STARTED) -> None:
        """Keep the ``most`` newest."""
        self._most = most
        self._lock = Lock()
        self._ids: dict[bytes, None] = {}

    def __contains__(self, retry_id: bytes) -> bool:
        """Return True if the tool of such a call was started."""
        return retry_id in self._ids

    def start(self, retry_id: bytes) -> bool:
        """Note the start of a tool; return False if one was started under this id before."""
        if not retry_id:
            return True
        with self._lock:
            if retry_id in self._ids:
                return False
            self._ids[retry_id] = None
            if len(self._ids) > self._most:
                del self._ids[next(iter(self._ids))]
            return True

    def forget(self, retry_id: bytes) -> None:
        """Have the next call under this id continue the one that was started."""
        with self._lock:
            self._ids.pop(retry_id, None)


# Of the process: a program may make a guard for each call.
started: Final = StartedCalls()


# A name is a segment of a resource, and logged.
MAX_TOOL_CHARS = 256

# Reasons of refusals that no verifier decided.
NO_TOKEN = "NO_TOKEN"
"""The call came without a token."""
BAD_CALL = "BAD_CALL"
"""The arguments can't be checked: a value has no form in JSON, or a name is not text."""
NO_ANSWER = "NO_ANSWER"
"""The verifier, its server or a callback failed, or the answer came too late."""
NO_GUARD = "NO_GUARD"
"""A guarded function was called where no guard is active."""
CHANGED = "CHANGED"
"""The arguments changed between the check and the call."""
USED = "USED"
"""A held call was committed or released before."""
WITHDRAWN = "WITHDRAWN"
"""The permission ended while the tool ran."""

_OUTWARD = {
    Reason.UNKNOWN_TOOL.name: Outward.DENIED,
    NO_TOKEN: Outward.UNAUTHENTICATED,
    BAD_CALL: Outward.DENIED,
    CHANGED: Outward.DENIED,
    USED: Outward.DENIED,
}
_OUTWARD |= {NO_ANSWER: Outward.UNAVAILABLE, NO_GUARD: Outward.DENIED, WITHDRAWN: Outward.UNAUTHENTICATED}


FORGOTTEN_GUARD = "no guard is active here: pass one, or call within guard.activate()"
"""The note of a refusal with NO_GUARD, for the developer."""


class ToolDenied(SessauthError):
    """A tool call that must not be made.

    An agent may see ``str(error)``. The rest is for the operator.

    Attributes:
        tool: the name of the tool, as the agent wrote it, and no more of it than could be a name.
        reason: the name of a :class:`~sessauth.reasons.Reason`, or a word of this module.
        outward: the answer in each protocol's terms.
        decision: the verifier's decision; None where none was made.
        observed: True if the call is made nevertheless, by a guard that only observes.
    """

    def __init__(
        self,
        tool: object,
        reason: str = "",
        decision: DecisionBase | None = None,
        detail: str = "",
        *,
        observed: bool = False,
    ) -> None:
        """Refuse a call by a decision, or for a ``reason`` of this module; an agent may see ``detail``."""
        self.reason = reason or (decision.reason.name if decision is not None else NO_ANSWER)
        self.outward = _OUTWARD.get(self.reason) or outward(decision)
        if self.outward is Outward.ALLOWED:
            self.outward = Outward.DENIED
        super().__init__(self.outward.text + detail)
        if self.reason == NO_GUARD:
            self.add_note(FORGOTTEN_GUARD)
        self._detail = detail
        self.tool = (tool if isinstance(tool, str) else ascii(tool))[:MAX_TOOL_CHARS]
        self.decision = decision
        self.observed = observed

    @property
    def decision_id(self) -> bytes:
        """The id of the decision, 16 bytes; empty without one. An agent may be given it."""
        return self.decision.decision_id if self.decision is not None else b""

    def __reduce__(self) -> tuple[type[Self], tuple[object, str, DecisionBase | None, str]]:
        """Have it pickled and copied by its parts."""
        return type(self), (self.tool, self.reason, self.decision, self._detail)


OWN: Final = ""
"""The origin of the program's own tools."""
UNNAMED: Final = "?"
"""The origin of the tools of a server that a framework has no name of: they are in no catalogue."""

Catalogues = ToolCatalog | Mapping[str, ToolCatalog]

_NO_TOOLS: Final = ToolCatalog("none", ())


class Origins:
    """The catalogue of each origin; a server that has none has no tools."""

    def __init__(self, catalogues: Catalogues) -> None:
        """Take the catalogues of servers by their names; or one, of its server and of the program.

        Raises UsageError if two have one server name, and so their tools one resource.
        """
        if isinstance(catalogues, ToolCatalog):
            catalogues = {OWN: catalogues, catalogues.server: catalogues}
        self._catalogues = {OWN: _NO_TOOLS, **catalogues}
        servers: dict[str, ToolCatalog] = {}
        for catalogue in catalogues.values():
            if servers.setdefault(catalogue.server, catalogue) is not catalogue:
                raise UsageError(
                    f"catalogue: two are of a server {catalogue.server!a}; name one of them otherwise"
                )

    def of(self, origin: str) -> ToolCatalog:
        """Return the catalogue of an origin."""
        return self._catalogues.get(origin, _NO_TOOLS)
