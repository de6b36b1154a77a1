"""Every block of the documents that a reader would paste does what the page says, pasted by a newcomer."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.machines import EARLIER, ELSEWHERE, INSTALLED, MARKS, machines, parts
from tests.support.markdown import Document, Fence
from tests.support.newcomer import SYSTEM_PATH, clone
from tests.support.tree import ROOT, sources
from tests.support.typed_page import SERVES, TYPED, assert_shown

README = ROOT / "README.md"
HOW_TO = ROOT / "docs" / "how-to"
PAGES = [Document(path) for path in sources(ROOT, ".md") if "tests" not in path.relative_to(ROOT).parts]
# Blocks that a reader never types: pictures, output, grammars, settings.
READ = ("text", "json", "toml", "yaml", "ebnf", "promql")
SERVE = Fence("sh", "sessauth init >/dev/null\nsessauth serve\n", "", 0, False)
# Pages that need what an environment may lack: a module of a framework, or packages of npm. .ci/run has both.
MODULES = {
    "docs/integrations/mcp.md": ["mcp"],
    "docs/integrations/fastmcp.md": ["fastmcp"],
    "docs/how-to/web-servers.md": ["gunicorn", "uvicorn"],
}
FOR_NODE = {"docs/mcp.md"}
# What the commands of a page need beside the package; .ci/run has it.
PROGRAMS = {"docs/how-to/tls.md": "openssl", "docs/how-to/web-servers.md": "curl"}
NODE_MODULES = ROOT / "build" / "interop" / "node_modules"
# Pages that go on where another ended, on the same machines.
FOLLOWED_BY = {"docs/how-to/tls.md": ["docs/how-to/rotate.md"]}
REASON = re.compile(r"not run: \S+( \S+){2,}")
BY_CI = "run by .ci/run"


def _name(page: Document) -> str:
    return str(page.path.relative_to(ROOT))


def _to_type(page: Document) -> list[Fence]:
    return [
        fence
        for fence in page.fences()
        if fence.language in TYPED and not fence.mark.startswith(("not run:", BY_CI))
    ]


def _is_shown_by(page: Document) -> dict[int, str]:
    """Return what the page shows behind a block, by the block's line."""
    fences = page.fences()
    return {
        before.line: after.body
        for before, after in pairwise(fences)
        if after.language == "text" and after.follows
    }


def _first() -> list[Document]:
    """Return the pages to type that begin with an empty home."""
    later = {name for names in FOLLOWED_BY.values() for name in names}
    return [page for page in PAGES if _to_type(page) and _name(page) not in later]


@pytest.mark.parametrize("page", _first(), ids=_name)
def test_every_block_does_what_the_page_says(page: Document, tmp_path: Path) -> None:
    """Each block ends well after those before it, in an empty home, and shows what the page says.

    The README is typed in a clone, with nothing on the path; other pages beside a server, with the command
    installed.
    """
    for module in MODULES.get(_name(page), ()):
        pytest.importorskip(module, reason="the page needs it")
    program = PROGRAMS.get(_name(page))
    if program and shutil.which(program, path=SYSTEM_PATH) is None:
        pytest.skip(f"the page needs {program}")
    readme = page.path == README
    path = SYSTEM_PATH if readme else INSTALLED
    work = tmp_path / "work"
    if readme:
        clone(work)
    else:
        work.mkdir()
    if _name(page) in FOR_NODE:
        if not (NODE_MODULES / "@modelcontextprotocol").is_dir():
            pytest.skip(f"the page needs packages of npm in {NODE_MODULES}: .ci/run installs them")
        (work / "node_modules").symlink_to(NODE_MODULES)
    pages = [page, *(Document(ROOT / name) for name in FOLLOWED_BY.get(_name(page), ()))]
    serves = any(SERVES.search(fence.body) for fence in _to_type(page) if ELSEWHERE not in fence.mark)
    earlier = any(EARLIER in fence.mark for fence in page.fences())
    how_to = page.path.parent == HOW_TO
    with machines(work, tmp_path, path, how_to=how_to, left_by_earlier=earlier) as typed:
        if not serves:
            typed.type(SERVE)
        for each in pages:
            shown = _is_shown_by(each)
            for fence in _to_type(each):
                said = typed.type(fence)
                if fence.line in shown:
                    assert_shown(typed.as_typed(shown[fence.line]), said)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_block_that_is_not_typed_has_its_reason(page: Document) -> None:
    """Each block has a language; one that can't be run says why in the comment above, in words."""
    wrong = [
        f"{_name(page)}:{fence.line}: {fence.language or 'no language'}, {fence.mark or 'no mark'}"
        for fence in page.fences()
        if fence.language not in (*TYPED, *READ) or (fence.language in TYPED and not _is_known(fence.mark))
    ]

    assert wrong == []


def _is_known(mark: str) -> bool:
    if mark == BY_CI or REASON.fullmatch(mark):
        return True
    return all(part in MARKS or re.fullmatch(r"exit \d+", part) for part in parts(mark))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(f.mark == BY_CI for f in page.fences())], ids=_name
)
def test_what_ci_is_said_to_run_it_runs(page: Document) -> None:
    """Each line of a block that is said to be run by .ci/run stands there as a command."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    ran = {part.strip() for part in re.split(r"\n|&&|\|\||;", script)}
    lines = [
        line.split("#")[0].strip()
        for fence in page.fences()
        if fence.mark == BY_CI
        for line in fence.body.splitlines()
    ]

    assert [line for line in lines if line not in ran] == []
