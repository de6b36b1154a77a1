"""Keeps in the state folder how far the control process's audit stream is on the disk, and who signs it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Final

from ...clock import Clock
from ...errors import KeyFolderError, StateUnusable
from ...state.host.folder import replace_file
from ...state.layout import DATA_MODE
from .. import layout, stream_register
from ..keys import public_keys
from ..stream_register import RegisteredStream
from ..verify.stream import StreamAnchor
from ..write.stream import AuditStream

# Streams of earlier runs; each names the ones that were there, so a few are enough.
STREAMS: Final = 8
_log = logging.getLogger(__name__)


class StreamRegister:
    """Writes ``audit.json`` of a state folder. Used by one thread at a time."""

    def __init__(self, state_dir: Path, folder: Path, clock: Clock, every_ms: int) -> None:
        """Go on from what is kept, for the audit folder ``folder``; written every ``every_ms`` at most."""
        self._path = state_dir / stream_register.FILE
        self._clock = clock
        self._every_ms = every_ms
        self._written_at = -every_ms
        self._told = 0
        try:
            found = stream_register.read(state_dir)
        except StateUnusable as error:
            _log.error("what was kept of the audit log is lost: %s", error)
            found = None
        # At the first time there is nothing to compare with: what signed the log until now is believed.
        self._keys = _published(folder) if found is None else found.keys
        self._earlier = () if found is None else found.anchors

    def keep(self, stream: AuditStream, *, now: bool = False) -> None:
        """Write how far a stream is on the disk, if that is due or ``now``."""
        steady_ms = self._clock.steady_ms()
        if stream.key.key_id not in self._keys:
            if self._keys:
                _log.warning("the audit log has a new key: %s", stream.key.key_id.hex())
            self._keys[stream.key.key_id] = stream.key.public_key
            now = True
        count, head, file = stream.durable
        if count == self._told or not (now or steady_ms - self._written_at >= self._every_ms):
            return
        at_ms = self._clock.now_ms()
        anchor = StreamAnchor(stream.stream_id, stream.process, file, count, head.hex(), at_ms, "", 0, -1)
        earlier = tuple(each for each in self._earlier if each.stream != stream.stream_id)
        content = RegisteredStream(self._keys, (*earlier[-STREAMS + 1 :], anchor)).encode()
        # What can't be written now is by the next turn; until then less is promised.
        with contextlib.suppress(OSError):
            replace_file(self._path, content, DATA_MODE)
            self._told = count
        self._written_at = steady_ms


def _published(folder: Path) -> dict[bytes, bytes]:
    try:
        return public_keys(folder / layout.PUBLIC_FILE)
    except KeyFolderError:
        return {}
