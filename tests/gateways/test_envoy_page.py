"""docs/integrations/envoy.md, typed by a newcomer who has Envoy."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.gateways.envoy import SAMPLE, program
from tests.support.interop_server import free_port
from tests.support.markdown import Document, Fence
from tests.support.newcomer import SYSTEM_PATH, environment, fresh_home
from tests.support.tree import ROOT
from tests.support.typed_page import assert_shown, typed_page

SERVE = Fence("sh", "sessauth init >/dev/null\nsessauth serve\n", "", 0, False)
PAGE = Document(ROOT / "docs" / "integrations" / "envoy.md")


def test_the_page_leads_to_a_denied_call(tmp_path: Path) -> None:
    """Within thirty lines; its ports and its socket are replaced by others that are free."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    ports = {"8000": str(free_port()), "10000": str(free_port())}
    socket = f"/tmp/authz-{ports['8000']}.sock"
    work = tmp_path / "work"
    (work / "examples" / "envoy").mkdir(parents=True)
    (work / "examples" / "envoy" / "envoy.yaml").write_text(_moved(SAMPLE.read_text(), ports, socket))
    path = os.pathsep.join([str(Path(program()).parent), str(Path(sys.prefix, "bin")), SYSTEM_PATH])
    ((typed, shown),) = [(each, behind) for each, behind in pairwise(PAGE.fences()) if each.language == "sh"]
    assert typed.body.count("\n") <= 30
    try:
        with fresh_home() as home, typed_page(environment(home, path=path), work, tmp_path) as reader:
            reader.type(SERVE)
            try:
                said = reader.type(replace(typed, body=_moved(typed.body, ports, socket)))
            finally:
                reader.type(Fence("sh", "kill %python3 %envoy '%?extauthz'\n", "", 0, False))
            assert_shown(shown.body, said)
    finally:
        Path(socket).unlink(missing_ok=True)


def _moved(text: str, ports: dict[str, str], socket: str) -> str:
    for old, new in ports.items():
        text = text.replace(old, new)
    return text.replace("/tmp/extauthz.sock", socket)
