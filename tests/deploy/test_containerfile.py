"""deploy/Containerfile: habits of good images, and its last stage run as an engine runs it.

No base image is fetched: the machine's own root takes its place.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from sessauth.server.config import load
from tests.support import booted, containerfile
from tests.support.tree import ROOT

FILE = ROOT / "deploy" / "Containerfile"
STAGES = containerfile.read(FILE)
INSTALLED, IMAGE = STAGES
REQUIRED = os.environ.get("SESSAUTH_TEST_SYSTEMD") == "1"


def test_bases_are_named_with_their_versions() -> None:
    """A registry, a tag that is not ``latest``, and one base for both stages."""
    assert INSTALLED.base == IMAGE.base
    assert re.fullmatch(r"[\w.]+\.\w+/[\w/]+:\d[\w.-]+", IMAGE.base)


def test_the_image_holds_wheels_and_nothing_of_the_tree() -> None:
    """No source is copied or given to the engine, and nothing is fetched but by pip, which builds nothing."""
    assert (
        "\n#     podman build --file deploy/Containerfile --tag sessauth dist/manylinux\n" in FILE.read_text()
    )
    assert INSTALLED.all("COPY") == ["*-cp313-*.whl /wheels/"]
    assert IMAGE.all("COPY") == ["--from=installed /opt/sessauth /opt/sessauth"]
    steps = " ".join(step for stage in STAGES for step in stage.all("RUN"))
    assert not re.search(r"\b(curl|wget|git|apt|apt-get|sudo|gcc|make)\b", steps)
    assert "--only-binary :all:" in steps and "--no-cache-dir" in steps


def test_every_step_ends_at_its_first_fault() -> None:
    """The shell of an engine has no ``-e`` of its own."""
    assert all(step.startswith("set -eu; ") for stage in STAGES for step in stage.all("RUN"))


def test_it_runs_as_nobody_in_particular() -> None:
    """A number, so that an engine can tell that it is not root; nothing is installed after it."""
    user, group = IMAGE.one("USER").split(":")
    words = [word for word, _ in IMAGE.instructions]

    assert int(user) > 0 and int(group) > 0
    assert not {"RUN", "COPY"}.intersection(words[words.index("USER") :])


def test_it_writes_to_its_volume_alone(tmp_path: Any) -> None:
    """The home is the volume, and the ports are those of the sample settings."""
    (tmp_path / "sessauth.toml").write_text((ROOT / "deploy" / "sessauth.toml").read_text("utf-8"))
    tcp = load(tmp_path).tcp
    ports = [address.rpartition(":")[2] for address in (tcp.address, tcp.check_address)]

    assert IMAGE.environment()["SESSAUTH_HOME"] == IMAGE.one("VOLUME") == IMAGE.one("WORKDIR")
    assert IMAGE.one("EXPOSE").split() == ports


def test_no_shell_reads_its_commands() -> None:
    """Else a signal would reach the shell in the place of the service."""
    assert IMAGE.command("ENTRYPOINT") == ["sessauth"] and IMAGE.command("CMD") == ["serve"]
    assert IMAGE.command("HEALTHCHECK")[:2] == ["python", "-c"]


@pytest.mark.timeout(300)
def test_its_last_stage_serves_as_an_engine_runs_it() -> None:
    """A read-only root is enough to become healthy, also after a kill, and to drain by the image's signal."""
    refused = booted.refusal()
    if refused and not REQUIRED:
        pytest.skip(f"no machine can be booted here: {refused}")
    image = {
        "run": IMAGE.all("RUN"),
        "environment": IMAGE.environment(),
        "volume": IMAGE.one("VOLUME"),
        "user": IMAGE.one("USER"),
        "healthcheck": IMAGE.command("HEALTHCHECK"),
        "entrypoint": IMAGE.command("ENTRYPOINT"),
        "command": IMAGE.command("CMD"),
        "stop signal": IMAGE.one("STOPSIGNAL"),
    }
    program = ROOT / "tests/support/procs/contained_host.py"
    found = json.loads(booted.run(program, {"probe/image.json": json.dumps(image)}, seconds=270))

    assert found["healthy before it runs"] is False
    assert found["root"].startswith("ro,")
    assert found["process"] == {
        "NSpid": [found["process"]["NSpid"][0], "1"],
        "Uid": ["4711"] * 4,
        "CapEff": ["0" * 16],
        "NoNewPrivs": ["1"],
    }
    assert found["status"] == 0
