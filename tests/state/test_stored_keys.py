"""The issuer keys that a writer tells are those of the rows, whatever brought them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import add_key
from sessauth.state import layout
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter


def test_a_row_of_the_same_generation_is_read(tmp_path: Path) -> None:
    """A snapshot of a log that went on elsewhere may have other keys under the same generation."""
    with StateWriter.open(tmp_path / "state", create=True) as writer:
        public = IssuerKey.generate().public_key
        writer.submit(add_key("k", public, status=KeyStatus.ACTIVE)).result().raise_if_rejected()
        (key,) = writer.keys()
        generation = writer.head().keys_generation

        def distrust(group: Group) -> None:
            group.put_carried(layout.KEYS, key.id, replace(key, status=KeyStatus.DISTRUSTED).encode())

        writer.run(distrust)
        assert writer.head().keys_generation == generation
        assert [each.status for each in writer.keys()] == [KeyStatus.DISTRUSTED]
