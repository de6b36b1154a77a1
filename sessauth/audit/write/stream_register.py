"""The state folder's register of the audit log: its signing keys, and the ends of its newest streams.

The audit folder is often on another disk, where others may write. Without write access to the state folder
too, no one can empty the audit folder or replace its log without a trace.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..._fast import _check as kernel
from ...clock import Clock
from ...errors import KeyFolderError, StateUnusable
from ...state.host.folder import read_file, replace_file
from ...state.layout import DATA_MODE
from .. import layout
from ..layout import public_keys
from ..verify.stream import StreamAnchor
from .stream import AuditStream

FILE: Final = "audit.json"
# Streams of earlier runs; each names the others of its time, so a few are enough.
STREAMS: Final = 8
_MAX_BYTES: Final = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamRegister:
    """Public keys by id, and the ends of the control process's newest streams, the oldest first."""

    keys: dict[bytes, bytes]
    anchors: tuple[StreamAnchor, ...]

    def encode(self) -> bytes:
        """Return the file's content."""
        content = {
            "keys": [key.hex() for key in self.keys.values()],
            "streams": [anchor.to_dict() for anchor in self.anchors],
        }
        return json.dumps(content, indent=1).encode() + b"\n"


def read(state_dir: Path) -> StreamRegister | None:
    """Return the register of a state folder, None if there is none.

    Raises StateUnusable WRONG_MODE if it can't be read, CORRUPT if it was not written by the server.
    """
    path = state_dir / FILE
    try:
        content = json.loads(read_file(path, _MAX_BYTES))
        keys = [bytes.fromhex(text) for text in content["keys"]]
        if not all(map(kernel.acceptable_key, keys)):
            raise ValueError("no public key")
        anchors = tuple(StreamAnchor.read(record, str(path)) for record in content["streams"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnusable(f"{path} can't be read: {error.strerror}", "WRONG_MODE") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StateUnusable(f"{path} was not written by the server ({error})", "CORRUPT") from None
    return StreamRegister({kernel.digest(key): key for key in keys}, anchors)


class RegisterWriter:
    """Writes the register of a state folder. Used by one thread at a time."""

    def __init__(self, state_dir: Path, folder: Path, clock: Clock, every_ms: int) -> None:
        """Go on from the register, for the audit folder ``folder``; written every ``every_ms`` at most."""
        self._path = state_dir / FILE
        self._clock = clock
        self._every_ms = every_ms
        self._written_at = -every_ms
        self._written_count = 0
        try:
            register = read(state_dir)
        except StateUnusable as error:
            _log.error("the register of the audit log is lost: %s", error)
            register = None
        # At the first time there is nothing to compare with: the keys that lie in the folder are trusted.
        self.keys = _published(folder) if register is None else register.keys
        """Public keys that signed the log, by id; grows with a new one."""
        self._earlier = () if register is None else register.anchors

    def update(self, stream: AuditStream, *, now: bool = False) -> None:
        """Write how far a stream is on the disk, if that is due or ``now``."""
        steady_ms = self._clock.steady_ms()
        if stream.key.key_id not in self.keys:
            if self.keys:
                _log.warning("the audit log has a new key: %s", stream.key.key_id.hex())
            self.keys[stream.key.key_id] = stream.key.public_key
            now = True
        count, head, file = stream.durable
        if count == self._written_count or not (now or steady_ms - self._written_at >= self._every_ms):
            return
        at_ms = self._clock.now_ms()
        anchor = StreamAnchor(stream.stream_id, stream.process, file, count, head.hex(), at_ms)
        earlier = tuple(each for each in self._earlier if each.stream != stream.stream_id)
        content = StreamRegister(self.keys, (*earlier[-STREAMS + 1 :], anchor)).encode()
        # A write that fails is repeated at the next turn; until then less is promised.
        with contextlib.suppress(OSError):
            replace_file(self._path, content, DATA_MODE)
            self._written_count = count
        self._written_at = steady_ms


def _published(folder: Path) -> dict[bytes, bytes]:
    try:
        return public_keys(folder / layout.PUBLIC_FILE)
    except KeyFolderError:
        return {}
