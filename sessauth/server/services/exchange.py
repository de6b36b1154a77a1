"""Transaction tokens: a call that was allowed, as a JWT for the services behind the gateway.

A token is a statement of one decision (draft-ietf-oauth-transaction-tokens): who acts for whom, and in which
call. It can't be renewed or narrowed, and it outlives the session by no more than its own short life.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...model.session import ACTOR_LABEL, LOGINS_OWNER, Session, lineage
from ...state.writer.state_writer import StateWriter
from ...v1 import authorization_service_pb2 as check_pb
from ...v1 import token_service_pb2 as pb
from ..keys.transaction_keys import TransactionKeys
from ..rpc.call import CallContext
from ..sections import TransactionTokenSettings
from ..status import invalid, refused
from .authorization import AuthorizationService

SIGNED: Final = "signed"
DENIED: Final = "denied"


class TransactionTokens:
    """Signs tokens of the calls that ``checks`` allows; none while ``settings`` have no issuer."""

    def __init__(
        self,
        writer: StateWriter,
        checks: AuthorizationService,
        keys: TransactionKeys,
        settings: TransactionTokenSettings,
    ) -> None:
        """Read the sessions of allowed calls from ``writer``."""
        self._writer = writer
        self._checks = checks
        self._keys = keys
        self._settings = settings
        self._lock = threading.Lock()
        self._outcomes: Counter[tuple[str, ...]] = Counter(
            {(SIGNED,): 0, (DENIED,): 0} if settings.issuer else {}
        )

    @property
    def outcomes(self) -> Mapping[tuple[str, ...], int]:
        """Counts of exchanges since the start, by outcome; empty while they are off."""
        with self._lock:
            return dict(self._outcomes)

    def exchange(self, request: pb.ExchangeRequest, call: CallContext) -> pb.ExchangeResponse:
        """Check a call and sign a token of it. Raises NO_TRANSACTION_KEY before the check if none can be."""
        self._require_enabled()
        domain = self._trust_domain(request.trust_domain)
        item = request.check.item
        for name in ("permit_ms", "token_only"):
            if getattr(item, name):
                raise invalid(
                    f"check.item.{name}", "must be unset: a transaction token is of a call that is made"
                )
        self._keys.require()
        message = self._checks.read("check", request.check.SerializeToString())
        decision = check_pb.CheckResponse.FromString(self._checks.answer("check", message, call)).decision
        token, expires_at_ms = "", 0
        if decision.allowed:
            claims = self._claims(request.check, decision, domain, call)
            token, expires_at_ms = self._keys.sign(claims), claims["exp"] * 1000
        with self._lock:
            self._outcomes[SIGNED if token else DENIED,] += 1
        return pb.ExchangeResponse(decision=decision, transaction_token=token, expires_at_ms=expires_at_ms)

    def jwks(self) -> bytes:
        """Return the public keys as a JWK set. Raises NO_TRANSACTION_KEY while transaction tokens are off."""
        self._require_enabled()
        return self._keys.jwks()

    def _require_enabled(self) -> None:
        if not self._settings.issuer:
            raise refused(
                "NO_TRANSACTION_KEY",
                "this server signs no transaction tokens; set transaction_tokens.issuer",
            )

    def _trust_domain(self, stated: str) -> str:
        known = self._settings.trust_domains
        if stated in known:
            return stated
        if stated or len(known) != 1:
            raise invalid("trust_domain", "must be one of the domains that the server has in its settings")
        return known[0]

    def _claims(
        self, check: check_pb.CheckRequest, decision: check_pb.Decision, domain: str, call: CallContext
    ) -> dict[str, Any]:
        """Return the claims of an allowed call. Raises NOT_LIVE if its session is gone since."""
        session = self._writer.get_session(decision.session_id)
        if session is None:
            raise refused("NOT_LIVE", "check.item.token: its session is gone")
        now_ms = self._writer.now_ms()
        ends_at_ms = min(now_ms + self._settings.ttl_ms, decision.expires_at_ms or now_ms)
        action, resource = check.item.action.decode(), check.item.resource.decode()
        context = {"action": action, "resource": resource, "session": decision.session_id.hex()}
        if session.purpose:
            context["purpose"] = session.purpose
        members = list(lineage(session, self._writer.get_session))
        requester = {"gateway": call.principal.name}
        actors = next((each.labels.get(ACTOR_LABEL) for each in members if each.owner == LOGINS_OWNER), None)
        if actors:
            requester["actors"] = actors
        if check.item.source:
            requester["req_ip"] = check.item.source
        return {
            "iss": self._settings.issuer,
            "aud": domain,
            "iat": now_ms // 1000,
            # Whole seconds: never later than promised.
            "exp": ends_at_ms // 1000,
            "txn": decision.decision_id.hex(),
            **_parties(members),
            "scope": action,
            "tctx": context,
            "rctx": requester,
        }


def _parties(members: Sequence[Session]) -> dict[str, Any]:
    """Return the claims ``sub`` and ``act`` (RFC 8693, 4.1) of a session, the first one, and its ancestors.

    They are the user of the login and the agents that act for her, the nearest first. Without a login the
    session's own subject is ``sub``, and nobody acts for it.
    """
    login = next((index for index, member in enumerate(members) if member.owner == LOGINS_OWNER), 0)
    act: dict[str, Any] = {}
    for member in reversed(members[:login]):
        act = {"act": {"sub": member.subject, **act}}
    return {"sub": members[login].subject, **act}
