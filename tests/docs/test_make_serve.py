"""``make serve``, typed by somebody who has nothing yet."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.newcomer import INTERRUPT, clone, environment, fresh_home, terminal

pytestmark = pytest.mark.skipif(
    not Path(sys.prefix, ".built").exists(), reason="these tests run in an environment that make did not make"
)


@pytest.mark.parametrize("own_home", [False, True], ids=["nothing set", "SESSAUTH_HOME set"])
def test_make_serve_starts_and_says_what_to_do_next(own_home: bool, tmp_path: Path) -> None:
    """It makes a home and serves it, what it says to paste works in a second terminal, and Ctrl-C ends it."""
    with fresh_home() as home:
        more = {"SESSAUTH_HOME": str(home / "own folder")} if own_home else {}
        env = environment(home, **more)
        with terminal(["make", "serve"], env, clone(tmp_path / "clone")) as serving:
            said = serving.read_until('"event": "serving"')
            pasted = "\n".join(re.findall(r"^    (\S.*)$", said, re.M))
            second = subprocess.run(
                ["bash", "-e", "-c", pasted],
                env=environment(home),
                cwd=home,
                capture_output=True,
                text=True,
                timeout=60,
            )
            serving.press(INTERRUPT)
            status = serving.end()

    assert second.stderr == ""
    assert second.returncode == 0
    assert "read acme: allowed\nread other: denied, CONDITION_FAILED\n" in second.stdout
    assert "agent:reviewer" in second.stdout
    assert '"event": "stopped"' in serving.shown
    assert "Traceback" not in serving.shown
    # make ends itself by the signal, whatever its recipe returned; a shell shows that as 130.
    assert status == -signal.SIGINT
    assert "130" in said


def test_make_serve_twice_keeps_the_first_home(tmp_path: Path) -> None:
    """A second start finds what the first one made: nothing is made anew and no session is lost."""
    tree, shown = clone(tmp_path / "clone"), []
    with fresh_home() as home:
        for _ in range(2):
            with terminal(["make", "serve"], environment(home), tree) as serving:
                serving.read_until('"event": "serving"')
                key = sorted(path.name for path in home.rglob("keys/*"))
                serving.press(INTERRUPT)
                serving.end()
                shown.append(key)

    assert shown[0] == shown[1] != []
