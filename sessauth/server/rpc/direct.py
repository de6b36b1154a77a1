"""Callers whose checks are answered on the loop of the server, without a thread.

A caller is one that the router admitted before, by the same credential or certificate. Calls answered here
are counted like those of the pipeline. With traces, or with a log of each call, nothing is answered here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ..._fast._check import Checker
from ..._fast._codec import DirectCaller, DirectMethod
from ...decisions.decision import Decision
from ...errors import ConfigError, ServerError
from ..metrics.shared_page import Page, row_of
from .access import RULES
from .authenticate import Authenticator
from .failed_signatures import Gates

# The kernel's words for the requests, by RPC.
KINDS: Final = {
    "/sessauth.v1.AuthorizationService/Check": "check",
    "/sessauth.v1.AuthorizationService/CheckBatch": "batch",
}


@dataclass(frozen=True, slots=True)
class DirectChecks:
    """The parts of a check: the kernel, the texts of denials, the gates of failed signatures, the meter."""

    checker: Checker
    explain: Callable[[Decision, bytes | None], str]
    gates: Gates
    page: Page | None = None


class DirectCallers:
    """Finds callers of ``Check`` and ``CheckBatch``."""

    def __init__(self, checks: DirectChecks, authenticator: Authenticator) -> None:
        """Admit callers that ``authenticator`` knows and whose role reaches the method."""
        times = None if checks.page is None else checks.page.rpcs
        self._methods = {
            name.encode(): (
                DirectMethod(kind, checks.checker, checks.explain, times, row_of(name, "OK")),
                RULES[name].roles,
            )
            for name, kind in KINDS.items()
        }
        self._authenticator = authenticator
        self._gates = checks.gates
        self._found_under: tuple[object, object] = (None, None)
        self._generation = 0
        self._draining = False

    @property
    def paths(self) -> Sequence[bytes]:
        """The full names of the RPCs."""
        return tuple(self._methods)

    def drain(self) -> None:
        """Admit no caller any more: the router refuses new calls."""
        self._draining = True

    def counts(self) -> dict[str, int]:
        """Return the number of calls that were answered, by RPC."""
        return {name.decode(): method.answered for name, (method, _) in self._methods.items()}

    def generation(self) -> int:
        """Return a number that grows when credentials or identities change."""
        credentials = self._authenticator.credentials
        if not credentials.is_current():
            # No caller is admitted while they can't be read: there are no entries then.
            with suppress(ConfigError):
                credentials.current()
        under = (credentials.loaded, self._authenticator.identities.known())
        if under[0] is not self._found_under[0] or under[1] is not self._found_under[1]:
            self._found_under = under
            self._generation += 1
        return self._generation + (1 << 32 if self._draining else 0)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        """Return the caller of an RPC; None for one who is not known, or may not call it."""
        method, roles = self._methods[path]
        # By a host's certificate comes what it states of others too, which the router judges.
        if self._draining or (authorization is None and self._authenticator.statements is not None):
            return None
        if authorization is not None:
            principal = self._authenticator.accepted_before(authorization)
        else:
            try:
                principal = self._authenticator.from_facts(facts or {})
            except ServerError:
                # The router refuses a certificate of two principals.
                principal = None
        if principal is None or principal.role not in roles:
            return None
        return DirectCaller(method, principal.audiences, self._gates[principal.name])
