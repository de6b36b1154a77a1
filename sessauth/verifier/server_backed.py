"""An embedded verifier with a server that charges the costs of calls.

    with Verifier.embedded(state, audience="gw", server=socket, credential_file=file) as verifier:
        decision = verifier.check(token, "deploy", "web", arguments, permit_ms=5_000)
        if decision:
            verifier.commit(decision.permit, token, "deploy", "web", arguments)

A call that does not end in stage ``needs`` is judged in this process, as by any embedded verifier. Costs that
only the writer of the state can charge are requested from the server, with the gateway's own credential;
without an answer the call stays denied. grpc is loaded when such a verifier is made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._fast.call.argument_forms import judged
from .._fast.check.cost_claims import CostClaims
from .._fast.check.recording_runner import Prepared
from ..decisions.decision import DecisionBase
from ..errors import SessauthError, UsageError
from ..limits import MAX_PERMIT_MS, MAX_RETRY_ID_BYTES
from ..model.approval import SignedApproval
from ..reasons import Reason, Stage
from ..scopes.call_arguments import Arguments
from ..tokens.token import Token
from .base import BaseVerifier
from .registration import RegistrationLoop, StateProbe

if TYPE_CHECKING:
    from .._fast.check.batch import Batch
    from ..client import Client, RemoteDecision

_RETRY_ID_BYTES: Final = 16


class _AskServerPolicy:
    """Charges nothing, so that the server is asked. A call without costs passes, unless ``also_free``."""

    def __init__(self, *, also_free: bool) -> None:
        self._also_free = also_free

    def charge(self, claims: CostClaims) -> int:
        return Reason.NEEDS_SERVER if self._also_free or len(claims) else 0


# Ends a check before its proof is used up: the server will need it.
_IF_IT_COSTS: Final = _AskServerPolicy(also_free=False)
_ALWAYS: Final = _AskServerPolicy(also_free=True)


class ServerBackedVerifier(BaseVerifier):
    """A verifier with a server behind it; made by :meth:`Verifier.embedded` with ``server``."""

    if TYPE_CHECKING:
        _client: Client
        _registration: RegistrationLoop | None

    def attach_client(self, client: Client) -> None:
        """Call the server with ``client``, which is closed with the verifier."""
        self._client = client
        self._registration = None

    def register_as(self, name: str, source: StateProbe, staleness_ms: int) -> None:
        """Register with the server under ``name``, until the verifier is closed.

        ``source`` is this verifier's source of state. Raises as :meth:`Verifier.embedded` says.
        """
        from ..client._verifier_channel import VerifierChannel

        channel = VerifierChannel(self._client.with_timeout(max(100, staleness_ms // 4)))
        registration = RegistrationLoop(self.view, source, channel.register, name, staleness_ms)
        registration.start()
        self._registration = registration

    @property
    def registered(self) -> bool:
        """True if the server counts on this verifier, by its latest answer."""
        return self._registration is not None and self._registration.registered

    def check(  # type: ignore[override] # a server's decision is another class of the same surface
        self,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        approvals: Sequence[SignedApproval] = (),
        retry_id: bytes = b"",
        permit_ms: int = 0,
        tool: Arguments = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        proof: bytes | str = b"",
    ) -> DecisionBase:
        """Judge one call, and have the server charge its costs.

        Args:
            token: as in :meth:`BaseVerifier.check`; so are ``action``, ``resource``, ``arguments``.
            action: the action of the call.
            resource: its resource.
            arguments: the very JSON that will be forwarded, or its values.
            approvals: signed approvals, beside those that the server holds.
            retry_id: up to 64 bytes that identify the attempt: the costs are charged once under it.
            permit_ms: request a permit, to be committed within so many ms; 0: none.
            tool: as in :meth:`BaseVerifier.check`; so are all below.
            session: the id of the session that the caller expects.
            source: the agent's IP address.
            peer: the identities of the agent's certificate.
            audience: the name of the verifier.
            at_least_revision: deny STALE_STATE unless the view has this revision.
            proof: the holder's proof of this call.

        Returns:
            The kernel's decision, or the server's where the server was asked. If the server can't be asked,
            the kernel's denial: NEEDS_SERVER, or APPROVAL_REQUIRED.

        Raises:
            UsageError: for a retry id or a permit beyond its limit.
        """
        # Converted once, so that the server judges the same bytes.
        arguments = judged(arguments)
        options: dict[str, Any] = {
            "tool": tool,
            "session": session,
            "source": source,
            "peer": peer,
            "audience": audience,
            "at_least_revision": at_least_revision,
            "proof": proof,
        }
        cost_handler = None
        if permit_ms or retry_id:
            _check_limits(retry_id, permit_ms)
            cost_handler = _ALWAYS if permit_ms or proof else _IF_IT_COSTS
        # The server records its own decision.
        decision = self._check(
            token, action, resource, arguments, cost_handler=cost_handler, record_needs=False, **options
        )
        if decision.allowed or decision.stage is not Stage.NEEDS:
            return decision
        try:
            return self._client.check(
                _sendable(token),
                action,
                resource,
                arguments,
                # Under it the transport may repeat the call after a lost answer: the costs are charged once.
                retry_id=retry_id or secrets.token_bytes(_RETRY_ID_BYTES),
                permit_ms=permit_ms,
                approvals=approvals,
                **self._request_options(options),
            )
        except SessauthError:
            self.record_decision(
                decision, _sendable(token), action, resource, arguments, source=source, audience=audience
            )
            return decision

    def commit(
        self,
        permit: bytes,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        **options: Any,
    ) -> RemoteDecision:
        """Have the server judge the call of a permit again, just before it is done, and use the permit up.

        The call is given as it was checked.

        Raises:
            SessauthError: there was no answer, which is never a yes; the permit may be used up.
        """
        request_options = self._request_options(options)
        request_options.pop("proof", None)
        return self._client.commit(permit, _sendable(token), action, resource, arguments, **request_options)

    def release(self, permit: bytes) -> int:
        """Give back the costs that a permit holds; returns the revision from which they are free again.

        Raises:
            SessauthError: it is not open, or there was no answer.
        """
        return self._client.release(permit)

    def check_batch(  # type: ignore[override] # as check
        self, calls: Iterable[tuple[Any, ...]], *, audience: str | None = None, at_least_revision: int = 0
    ) -> Batch | list[DecisionBase]:
        """Judge many calls as :meth:`BaseVerifier.check_batch` does, and have the server charge the costs.

        The server is asked about calls with costs one by one, in their order.
        """
        calls = tuple(calls)
        options = {"audience": audience, "at_least_revision": at_least_revision}
        batch = self._check_batch(
            calls, audience=audience, at_least_revision=at_least_revision, record_needs=False
        )
        if batch.all_allowed:
            return batch
        decisions: list[DecisionBase] = []
        for index, (call, decision) in enumerate(zip(calls, batch, strict=True)):
            answer = self._ask_server(call, options, decision) if decision.stage is Stage.NEEDS else decision
            if answer is decision and decision.stage is Stage.NEEDS:
                self.record_batch_item(batch, index)
            decisions.append(answer)
        return decisions

    def close(self) -> None:
        """Leave the server's registry, report the rest, and close all that was opened; deny later checks.

        In a child that was forked since, nothing is done, as in :meth:`BaseVerifier.close`.
        """
        if self.inherited:
            return
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        super().close()
        self._client.close()

    def _ask_server(
        self, call: tuple[Any, ...], options: dict[str, Any], decision: DecisionBase
    ) -> DecisionBase:
        """Return the server's decision about one call of a batch, or ``decision`` without an answer."""
        names = ("arguments", "tool", "session", "source", "peer", "proof")
        token, action, resource, *rest = call
        try:
            return self._client.check(
                _sendable(token),
                action,
                resource,
                retry_id=secrets.token_bytes(_RETRY_ID_BYTES),
                **self._request_options({**options, **dict(zip(names, rest, strict=False))}),
            )
        except SessauthError:
            return decision

    def _request_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a check that the server needs; it judges by its own time."""
        names = ("arguments", "tool", "session", "source", "peer", "proof", "at_least_revision")
        given = {name: options[name] for name in names if options.get(name)}
        audience = options.get("audience")
        return {**given, "audience": self.audience if audience is None else audience}


def open_client(
    server: str | os.PathLike[str], credential: str | None, credential_file: Path | None, timeout_ms: int
) -> Client:
    """Return a client for a gateway's own credential.

    Raises:
        ConfigError: if ``server`` or the file can't be used.
        UsageError: if no credential is given: the operator's, beside the socket, is not for gateways.
    """
    from ..client import Client

    if credential is None and credential_file is None:
        raise UsageError("credential: give credential= or credential_file=, of the gateway's role")
    return Client(
        os.fspath(server), credential=credential, credential_file=credential_file, timeout_ms=timeout_ms
    )


def _check_limits(retry_id: bytes, permit_ms: int) -> None:
    if len(retry_id) > MAX_RETRY_ID_BYTES:
        raise UsageError(f"retry_id: at most {MAX_RETRY_ID_BYTES} bytes, not {len(retry_id)}")
    if not 0 <= permit_ms <= MAX_PERMIT_MS:
        raise UsageError(f"permit_ms: {permit_ms} is not between 0 and {MAX_PERMIT_MS}")


def _sendable(token: bytes | str | Token | Prepared) -> bytes | str | Token:
    return token.data if isinstance(token, Prepared) else token
