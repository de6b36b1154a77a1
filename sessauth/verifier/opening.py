"""Opening an embedded verifier with all that it was given: recorder, reports, registration."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from ..errors import UsageError
from .base import BaseVerifier
from .cost_judge import CostJudge, ServerAccess

if TYPE_CHECKING:
    from ..audit.write.stream import AuditOptions

V = TypeVar("V", bound=BaseVerifier)


def open_verifier(
    kind: type[V],
    state_dir: str | os.PathLike[str],
    *,
    audience: str,
    cache_bytes: int,
    server: ServerAccess | None,
    audit: AuditOptions | None,
    report_usage: bool,
    register_as: str,
    staleness_ms: int,
) -> V:
    """Return a verifier of ``kind`` for a state folder, which it closes with itself.

    A ``server`` is for a :class:`CostJudge`. Parameters and errors are those of :meth:`Verifier.embedded`.
    """
    from ..audit.recording.process import start_embedded
    from ..state.host.proof_keys import ProofReader
    from ..state.lmdb.reader import StateReader

    if report_usage and server is None:
        raise UsageError("report_usage: give server=, which usage is reported to")
    if register_as and server is None:
        raise UsageError("register_as: give server= and its credential, where to register")
    with ExitStack() as opened:
        client = server.client() if server is not None else None
        if client is not None:
            opened.callback(client.close)
        reader = StateReader.open(state_dir)
        opened.callback(reader.close)
        verifier = kind(reader, audience=audience, cache_bytes=cache_bytes)
        reader.watch(ProofReader(state_dir, verifier).refresh)
        if audit is not None or report_usage:
            sender = None
            if report_usage and client is not None:
                from ..client._verifier_channel import VerifierChannel

                sender = VerifierChannel(client)
            verifier._recorder = start_embedded(verifier, reader, audit, sender)
            # Before the parts that it reads and reports by.
            opened.callback(verifier._recorder.close)
        if isinstance(verifier, CostJudge):
            verifier.attach_client(client)
            if register_as:
                verifier.register_as(register_as, reader, staleness_ms)
        # The verifier closes it from here on.
        opened.pop_all()
    verifier._owned = reader
    return verifier
