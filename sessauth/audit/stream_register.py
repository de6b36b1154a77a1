"""The state folder's own record of the audit log: its signing keys, and how far its newest streams came.

The audit folder is often another disk's, and others may write there. Who can't write the state folder too can
neither empty the audit folder nor put another log in its place without a trace.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .._fast.crypto import ed25519
from ..errors import StateUnusable
from .verify.stream import StreamAnchor

FILE: Final = "audit.json"
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RegisteredStream:
    """Public keys by id, and the ends of the control process's newest streams, the oldest first."""

    keys: dict[bytes, bytes]
    anchors: tuple[StreamAnchor, ...]

    def encode(self) -> bytes:
        """Return the file's content."""
        streams = [
            {
                "stream": each.stream.hex(),
                "process": each.process,
                "file": each.file,
                "count": each.count,
                "head": each.head,
                "at_ms": each.at_ms,
            }
            for each in self.anchors
        ]
        keys = [key.hex() for key in self.keys.values()]
        return json.dumps({"keys": keys, "streams": streams}, indent=1).encode() + b"\n"


def read(state_dir: Path) -> RegisteredStream | None:
    """Return what a state folder keeps, None if it keeps nothing.

    Raises StateUnusable WRONG_MODE if it can't be read, CORRUPT if it is not what the server wrote.
    """
    path = state_dir / FILE
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
        keys = [bytes.fromhex(text) for text in found["keys"]]
        if not all(map(ed25519.acceptable_key, keys)):
            raise ValueError("no public key")
        anchors = tuple(
            StreamAnchor(
                bytes.fromhex(each["stream"]),
                str(each["process"]),
                int(each["file"]),
                int(each["count"]),
                str(each["head"]),
                int(each["at_ms"]),
                named_in=str(path),
                line=0,
                n=-1,
            )
            for each in found["streams"]
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnusable(f"{path} can't be read: {error.strerror}", "WRONG_MODE") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StateUnusable(f"{path} is not what the server wrote ({error})", "CORRUPT") from None
    return RegisteredStream({ed25519.digest(key): key for key in keys}, anchors)
