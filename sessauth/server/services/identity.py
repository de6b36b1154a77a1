"""IdentityService: describes identity providers; ends logins by their statements and by operators."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from ...errors import NotLeader, SessauthError
from ...state.rules.logins import stored_cuts
from ...state.writer.state_writer import StateWriter
from ...v1 import identity_service_pb2 as pb
from .. import request_fields
from ..identity.login_changes import AppliedPart, count_logins
from ..identity.login_sessions import APPLIED, LoginSessions
from ..identity.statements import (
    LOGOUT,
    OTHER,
    REVOCATION,
    STREAM_UPDATED,
    VERIFICATION,
    LoginEffect,
    Signal,
    logins_of,
)
from ..log import event
from ..rpc.call import CallContext
from ..rpc.finisher import Steps
from ..status import invalid, refused, word_of
from .base import Service

UNMATCHED: Final = "UNMATCHED"
RECEIVED: Final = "RECEIVED"
# The event of a statement that is refused: nothing of it is believed.
_UNVERIFIED: Final = {"logout_token": LOGOUT, "revocation": REVOCATION}
_COUNTS: Final = {
    LoginEffect.END: "ended",
    LoginEffect.SUSPEND: "suspended",
    LoginEffect.RESUME: "resumed",
    LoginEffect.NARROW: "narrowed",
}


@dataclass(eq=False)
class IdentityService(Service):
    """Answers IdentityService by the sessions of logins."""

    descriptor = pb.DESCRIPTOR.services_by_name["IdentityService"]

    writer: StateWriter
    logins: LoginSessions

    def report_signal(
        self, request: pb.ReportSignalRequest, call: CallContext
    ) -> Steps[pb.ReportSignalResponse]:
        """Apply a provider's statement to the logins that it names, once it is verified."""
        kind = _UNVERIFIED.get(request.WhichOneof("statement") or "", OTHER)
        try:
            signal = self._signal(request)
            if request.HasField("security_event"):
                self.logins.streams.receive(signal)
            kind = signal.event
            reason = f"{signal.provider.name}: {kind}"
            changed, revision = yield from self._apply(signal, reason, call)
        except NotLeader:
            # The leader is asked, and counts it.
            raise
        except SessauthError as error:
            self.logins.count_signal(request.provider, kind, word_of(error))
            raise
        self.logins.count_signal(request.provider, kind, _outcome(signal))
        return pb.ReportSignalResponse(
            revision=revision, **{_COUNTS[effect]: number for effect, number in changed.items()}
        )

    def _signal(self, request: pb.ReportSignalRequest) -> Signal:
        """Return what a statement says once it is verified."""
        if request.HasField("logout_token"):
            return self.logins.logout(request.logout_token, request.provider)
        if request.HasField("security_event"):
            return self.logins.event(request.security_event, request.provider)
        if not request.HasField("revocation"):
            raise invalid("statement", "is required: a logout token, a revocation or a security event")
        stated = request.revocation
        return self.logins.revocation(stated.bearer, stated.body, request.provider)

    def ask_stream(self, request: pb.AskStreamRequest, call: CallContext) -> pb.AskStreamResponse:
        """Return the state for a verification event."""
        self.writer.require_leading()
        return pb.AskStreamResponse(state=self.logins.streams.ask(request.provider))

    def get_identity_status(
        self, request: pb.GetIdentityStatusRequest, call: CallContext
    ) -> pb.GetIdentityStatusResponse:
        """Describe the providers of the settings."""
        self.writer.require_leading()
        now_ms = self.writer.now_ms()
        with self.writer.source().rows() as rows:
            answer = pb.GetIdentityStatusResponse(cuts=stored_cuts(rows))
            for each in self.logins.providers:
                logins = count_logins(rows, each.issuer, now_ms)
                shown = answer.providers.add(name=each.name, issuer=each.issuer, logins=logins)
                keys_age_ms = self.logins.keys_age_ms(each.name)
                facts = self.logins.streams.describe(each.name)
                if keys_age_ms is not None:
                    shown.keys_age_ms = max(0, keys_age_ms)
                if facts is not None:
                    stream = pb.EventStreamStatus(on_silence=each.on_silence, on_gap=each.on_gap)
                    stream.age_ms, stream.proven, stream.silent, stream.gap = facts
                    shown.stream.CopyFrom(stream)
        return answer

    def cut_logins(self, request: pb.CutLoginsRequest, call: CallContext) -> Steps[pb.CutLoginsResponse]:
        """End the logins of a user up to now, or one login."""
        provider = self.logins.provider(request.provider)
        if provider is None:
            raise refused("NOT_FOUND", "provider: the settings have no such identity provider")
        if bool(request.subject) == bool(request.sid):
            raise invalid("subject, sid", "state exactly one of them")
        subject = request_fields.text(request.subject, "subject")
        sid = request_fields.text(request.sid, "sid")
        reason = request_fields.text(request.reason, "reason")
        moment_ms = self.writer.now_ms()
        if request.enable and sid:
            raise invalid("sid", "must be empty beside enable: an account is a user's")
        signal = Signal(provider, "cut", logins_of(subject, sid), moment_ms)
        if request.enable:
            signal = replace(signal, event="enable", effect=LoginEffect.NOTHING, moments=("enabled_ms",))
        changed, revision = yield from self._apply(signal, reason, call)
        up_to_ms = 0 if request.enable else moment_ms
        return pb.CutLoginsResponse(revision=revision, ended=changed[LoginEffect.END], up_to_ms=up_to_ms)

    def _apply(
        self, signal: Signal, reason: str, call: CallContext
    ) -> Steps[tuple[Counter[LoginEffect], int]]:
        """Apply a signal; return how many sessions of logins it changed, and the revision after the last."""
        changed: Counter[LoginEffect] = Counter()
        revision, more, goes_on = 0, True, False
        while more:
            call.raise_if_expired()
            part: AppliedPart = yield self.logins.apply(signal, reason, call.principal.name, goes_on=goes_on)
            goes_on = True
            changed += Counter(part.changed)
            revision, more = part.revision, part.more
        event(
            logging.WARNING if changed else logging.INFO,
            "identity_signal",
            caller=call.principal.name,
            provider=signal.provider.name,
            signal=signal.event,
            effect=signal.effect,
            jti=signal.token_id,
            # A user's name at the provider is in the log of changes, and not in this one.
            users=[_digest(named.subject or named.sid) for named in signal.named],
            moment_ms=signal.moment_ms,
            reason=reason,
            changed=changed.total(),
        )
        return changed, revision


def _outcome(signal: Signal) -> str:
    if signal.event in (VERIFICATION, STREAM_UPDATED):
        return RECEIVED
    return APPLIED if signal.named else UNMATCHED


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
