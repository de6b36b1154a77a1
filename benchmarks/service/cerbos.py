"""A policy service in Go at an equal question: Cerbos, from npm, optional.

    python -m benchmarks.service.cerbos     prints what `make cerbos` installs

One principal, one resource, one action, and a rule with two conditions on the resource's attributes.
docs/performance.md says what is not equal. Messages are encoded here by hand: no code of Cerbos is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.host_info import ROOT
from benchmarks.workloads import WrongDecision

PACKAGE: Final = "@cerbos/cerbos-linux-x64"
VERSION: Final = "0.55.0"
FOLDER: Final = ROOT / ".venv-cerbos" / "node_modules" / PACKAGE
NOT_INSTALLED: Final = f"Cerbos {VERSION} is not installed (make cerbos)"
METHOD: Final = "/cerbos.svc.v1.CerbosService/CheckResources"
POLICY: Final = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  version: default
  resource: pull_request
  rules:
    - actions: ["read"]
      effect: EFFECT_ALLOW
      roles: ["agent"]
      condition:
        match:
          all:
            of:
              - expr: R.attr.owner == "acme"
              - expr: R.attr.page <= 10
"""
# Nothing is reported to anybody, and nothing listens but two sockets of this run.
CONFIG: Final = """\
server:
  httpListenAddr: unix:{folder}/http.sock
  grpcListenAddr: unix:{folder}/grpc.sock
storage:
  driver: disk
  disk:
    directory: {folder}/policies
    watchForChanges: false
telemetry:
  disabled: true
audit:
  enabled: false
"""
ALLOW: Final = 1


def program() -> Path | None:
    """Return the installed program; None if it is not there, or of another version."""
    try:
        installed = json.loads((FOLDER / "package.json").read_text("utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return None
    file = FOLDER / "cerbos-linux-x64"
    return file if installed == VERSION and file.is_file() else None


def arguments(folder: Path) -> tuple[list[str], str]:
    """Write policy and settings below ``folder``; returns the arguments of a server, and its address."""
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "pull_request.yaml").write_text(POLICY, "utf-8")
    settings = folder / "cerbos.yaml"
    settings.write_text(CONFIG.format(folder=folder), "utf-8")
    return ["server", f"--config={settings}", "--log-level=error"], f"unix:{folder}/grpc.sock"


def field(number: int, content: bytes) -> bytes:
    """Return a field of protobuf that holds bytes; they are fewer than 16,384."""
    size = len(content)
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + content


def _attribute(name: str, value: bytes) -> bytes:
    return field(4, field(1, name.encode()) + field(2, value))


def request(page: int) -> bytes:
    """Return a CheckResourcesRequest: may the agent read this page of acme's pull requests."""
    principal = field(1, b"agent-7") + field(3, b"agent")
    # google.protobuf.Value: 2 is a number, 3 a text.
    attributes = (
        _attribute("owner", field(3, b"acme"))
        + _attribute("repo", field(3, b"web"))
        + _attribute("state", field(3, b"open"))
        + _attribute("page", b"\x11" + struct.pack("<d", page))
    )
    resource = field(1, b"pull_request") + field(3, b"list_pull_requests") + attributes
    return field(1, b"request-1") + field(3, principal) + field(4, field(1, b"read") + field(2, resource))


def require_allowed(answers: Sequence[bytes]) -> None:
    """Raise WrongDecision unless each answer allows the read."""
    # The entry of the map of actions: its key, and its effect as a number.
    allowed = field(1, b"read") + bytes((2 << 3, ALLOW))
    for answer in answers:
        if allowed not in answer:
            raise WrongDecision("Cerbos: not allowed")


if __name__ == "__main__":
    print(f"{PACKAGE}@{VERSION}")
