"""IdentityService: ends logins, by signed statements of identity providers and by operators."""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from typing import Final

from ...errors import NotLeader, SessauthError
from ...state.writer.state_writer import StateWriter
from ...v1 import identity_service_pb2 as pb
from .. import request_fields
from ..identity.login_sessions import APPLIED, EndedPart, LoginSessions
from ..identity.statements import LOGOUT, REVOCATION, Signal
from ..log import event
from ..rpc.call import CallContext
from ..rpc.finisher import Steps
from ..status import invalid, refused, word_of
from .base import Service

_CUT: Final = "cut"


@dataclass(eq=False)
class IdentityService(Service):
    """Answers IdentityService by the sessions of logins."""

    descriptor = pb.DESCRIPTOR.services_by_name["IdentityService"]

    writer: StateWriter
    logins: LoginSessions

    def report_signal(
        self, request: pb.ReportSignalRequest, call: CallContext
    ) -> Steps[pb.ReportSignalResponse]:
        """End the logins that a provider's statement names, once it is verified."""
        kind = LOGOUT if request.HasField("logout_token") else REVOCATION
        try:
            if request.HasField("logout_token"):
                signal = self.logins.logout(request.logout_token, request.provider)
            elif request.HasField("revocation"):
                stated = request.revocation
                signal = self.logins.revocation(stated.bearer, stated.body, request.provider)
            else:
                raise invalid("statement", "is required: a logout token, or a revocation")
            # A repeat has the first one's outcome, and takes no room.
            change_id = f"signal/{hashlib.blake2b(repr(signal).encode(), digest_size=16).hexdigest()}"
            reason = f"{signal.provider.name}: {signal.event}"
            ended, revision = yield from self._end(signal, change_id, reason, call)
        except NotLeader:
            # The leader is asked, and counts it.
            raise
        except SessauthError as error:
            self.logins.count_signal(request.provider, kind, word_of(error))
            raise
        self.logins.count_signal(request.provider, kind, APPLIED)
        return pb.ReportSignalResponse(revision=revision, ended=ended)

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
        signal = Signal(provider, _CUT, subject, sid, moment_ms, "")
        change_id = f"cut/{secrets.token_hex(16)}"
        ended, revision = yield from self._end(signal, change_id, reason, call)
        return pb.CutLoginsResponse(revision=revision, ended=ended, up_to_ms=moment_ms)

    def _end(self, signal: Signal, change_id: str, reason: str, call: CallContext) -> Steps[tuple[int, int]]:
        """Cut and end; return how many sessions of logins this ended, and the revision after the last."""
        ended, revision, more = 0, 0, True
        while more:
            call.raise_if_expired()
            part: EndedPart = yield self.logins.end_logins(signal, change_id, reason, call.principal.name)
            ended += len(part.session_ids)
            revision, more = part.revision, part.more
        event(
            logging.WARNING,
            "logins_ended",
            caller=call.principal.name,
            provider=signal.provider.name,
            signal=signal.event,
            jti=signal.token_id,
            # A user's name at the provider is in the log of changes, and not in this one.
            user=hashlib.blake2b(signal.subject.encode(), digest_size=8).hexdigest()
            if signal.subject
            else "",
            up_to_ms=signal.moment_ms,
            reason=reason,
            ended=ended,
        )
        return ended, revision
