"""The machines that a page is typed on: one, or another beside it, which sees the same folder of files.

The comment above a block says where and when it is typed, in parts behind commas: ``on another machine``,
``with the server stopped``, ``by the earlier version``, ``exit N``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.earlier_home import lay_down, raise_format
from tests.support.interop_server import free_port
from tests.support.markdown import Fence
from tests.support.newcomer import SYSTEM_PATH, environment, fresh_home
from tests.support.typed_page import TypedPage, typed_page

ELSEWHERE = "on another machine"
STOPPED = "with the server stopped"
EARLIER = "by the earlier version"
MARKS = (ELSEWHERE, STOPPED, EARLIER)
# Where the command is installed.
INSTALLED = f"{Path(sys.prefix, 'bin')}{os.pathsep}{SYSTEM_PATH}"
HOME = Path(".local/state/sessauth")
_PORT = re.compile(r"\b(?:7443|8000|8080)\b")
# The first line of a program that a reader saves, and does not type.
_SAVED = re.compile(r"# (\w[\w.]*\.py)$", re.M)


def parts(mark: str) -> list[str]:
    """Return the parts of a block's comment."""
    return mark.split(", ") if mark else []


@dataclass
class Machines:
    """Shells in empty homes, all in one folder.

    Programs that begin with ``# name.py`` are saved. With ``how_to`` a page's ports become free ones.
    """

    opened: ExitStack
    work: Path
    scratch: Path
    path: str
    how_to: bool = False
    # True for a home that an earlier version left.
    left_by_earlier: bool = False
    _home: Path = field(init=False)
    _raised: bool = False
    _typed: dict[str, TypedPage] = field(default_factory=dict)
    _ports: dict[str, str] = field(default_factory=dict)

    def type(self, fence: Fence) -> str:
        """Type one block where its comment says; return what was shown."""
        found = parts(fence.mark)
        machine = self._machine(ELSEWHERE if ELSEWHERE in found else "")
        if STOPPED in found:
            machine.stop_server()
        if EARLIER in found and not self._raised:
            raise_format(self._home / HOME / "state")
            self._raised = True
        body = self.as_typed(fence.body)
        if fence.language == "python" and (name := _SAVED.match(body)):
            return machine.save(name[1], body)
        rest = ", ".join(part for part in found if part not in MARKS)
        return machine.type(replace(fence, body=body, mark=rest))

    def as_typed(self, text: str) -> str:
        """Return what is typed, or shown, for a text of the page."""
        if not self.how_to:
            return text
        return _PORT.sub(lambda port: self._ports.setdefault(port[0], str(free_port())), text)

    def _machine(self, name: str) -> TypedPage:
        if name not in self._typed:
            scratch = self.scratch / f"machine-{len(self._typed)}"
            scratch.mkdir()
            home = self.opened.enter_context(fresh_home())
            env = environment(home, path=self.path)
            if not name:
                self._home = home
                if self.left_by_earlier:
                    lay_down(home / HOME, env)
            self._typed[name] = self.opened.enter_context(typed_page(env, self.work, scratch))
        return self._typed[name]


@contextmanager
def machines(
    work: Path, scratch: Path, path: str, *, how_to: bool = False, left_by_earlier: bool = False
) -> Iterator[Machines]:
    """Give the machines of one page, and stop all that was started on them afterwards."""
    with ExitStack() as opened:
        yield Machines(opened, work, scratch, path, how_to, left_by_earlier)
