"""What an embedded verifier records: in an audit stream of its own, and by telling its server."""

from __future__ import annotations

from ..._fast.check.checker import Checker
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.feed import LocalFeed
from ...usage.collector import ObservationSender
from .options import AuditOptions
from .process import ProcessRecorder

PROCESS = "embedded"
# Of notes that wait, where no audit options say it.
QUEUE_BYTES = 4 << 20


def recorder_of(
    verifier: Checker,
    source: LmdbSource,
    options: AuditOptions | None,
    teller: ObservationSender | None = None,
) -> ProcessRecorder:
    """Return the running recorder of a verifier that judges by ``source``; it is to be closed before that.

    With ``options`` it keeps an audit stream; ``teller`` is told what is seen of sessions.

    Raises:
        ConfigError: if the folder can't be written.
        KeyFolderError: if a key in it can't be used.
    """
    queue_bytes = QUEUE_BYTES if options is None else options.queue_bytes
    recorder = ProcessRecorder(verifier, queue_bytes=queue_bytes)
    if options is not None:
        head = LocalFeed(source).head()
        recorder.open_audit(options, head, PROCESS, audience=verifier.audience, index=True)
    if teller is not None:
        recorder.tell(teller, source)
    return recorder.start()
