"""An audit folder written anew by somebody who has its keys: every line chained, every checkpoint signed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessauth._fast import _codec as codec
from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, checkpoint_body

Edit = Callable[[dict[str, Any]], dict[str, Any] | None]


def reseal(folder: Path, to: Path, edit: Edit) -> None:
    """Copy a folder with each record changed, or left out where ``edit`` gives None."""
    to.mkdir()
    for name in (layout.KEY_FILE, layout.PUBLIC_FILE, layout.ARGUMENTS_KEY_FILE):
        shutil.copy(folder / name, to / name)
    key = AuditKey.of_folder(to)
    for stream, files in layout.files(folder).items():
        count, head = 0, layout.ZEROS
        for number, path in sorted(files.items()):
            lines = []
            for line in path.read_bytes().splitlines():
                record = layout.parse(line)
                assert record is not None
                del record["n"], record["chain"]
                kind = record.pop("kind")
                body = _body(kind, record, key, stream, count, head, edit)
                if body:
                    sealed, head, added = codec.seal(body, count, head)
                    count += added
                    lines.append(sealed)
            (to / layout.file_name(stream, number)).write_bytes(b"".join(lines))


def _body(
    kind: str, record: dict[str, Any], key: AuditKey, stream: bytes, count: int, head: bytes, edit: Edit
) -> bytes:
    if kind == "checkpoint":
        return checkpoint_body(key, stream, count, head, record["at_ms"])
    if kind == "begin":
        record["previous"] = head.hex()
    changed = edit({"kind": kind, **record})
    if changed is None:
        return b""
    return layout.body(changed.pop("kind"), changed)
