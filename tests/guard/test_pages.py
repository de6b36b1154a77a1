"""The programs of docs/integrations/frameworks.md, each typed where its framework is installed."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.markdown import Document, Fence
from tests.support.newcomer import SYSTEM_PATH, environment, fresh_home
from tests.support.tree import ROOT
from tests.support.typed_page import assert_shown, typed_page

PAGE = Document(ROOT / "docs" / "integrations" / "frameworks.md")
SERVE = Fence("sh", "sessauth init >/dev/null\nsessauth serve\n", "", 0, False)
# Of a program.
MAX_LINES = 30
CALLS = '[[("refund", {"order": "o-1", "amount": 20})], [("refund", {"order": "o-1", "amount": 2000})]]'
# The model of each program: that of its adapter's tests, which makes these calls.
MODELS = {
    "langchain": ("langchain", f"from tests.guard.test_langchain import Model\nmodel = Model(turns={CALLS})"),
    "pydantic-ai": (
        "pydantic_ai",
        "from pydantic_ai.messages import ToolCallPart\n"
        "from pydantic_ai.models.function import FunctionModel\n"
        "from tests.guard.test_pydantic_ai import Model\n"
        f"model = FunctionModel(Model(*[[ToolCallPart(*call) for call in turn] for turn in {CALLS}]))",
    ),
    "openai-agents": (
        "agents",
        f"from tests.guard.test_openai_agents import Scripted\nmodel = Scripted(*{CALLS})",
    ),
    "google-adk": (
        "google.adk",
        f"from tests.guard.test_google_adk import model_of\nmodel = model_of(*{CALLS})",
    ),
    "crewai": (
        "crewai",
        "from tests.guard.test_crewai import Native\n"
        f"model = Native(model='fake', turns=[turn[0] for turn in {CALLS}], offered=[])",
    ),
}


@pytest.mark.parametrize("page", MODELS)
def test_a_program_leads_to_the_first_denied_call(page: str, tmp_path: Path) -> None:
    """It shows what the page says."""
    framework, model = MODELS[page]
    if not _is_installed(framework):
        pytest.skip(f"{framework} is tested where it is installed")
    program, shown = _program(page)
    work, scratch, commands = tmp_path / "work", tmp_path / "scratch", tmp_path / "bin"
    for folder in (work, scratch, commands):
        folder.mkdir()
    (work / "my_model.py").write_text(model + "\n", encoding="utf-8")
    # The tree may be on the path of modules only, with no command installed.
    command = commands / "sessauth"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sessauth.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join((str(commands), str(Path(sys.executable).parent), SYSTEM_PATH))
    with fresh_home() as home:
        env = environment(home, path=path, PYTHONPATH=f"{work}{os.pathsep}{ROOT}")
        with typed_page(env, work, scratch) as typed:
            typed.type(SERVE)
            said = typed.type(program)

    assert_shown(shown.body, said)


@pytest.mark.parametrize("page", MODELS)
def test_a_page_is_short(page: str) -> None:
    """A reader sees the first denied call without scrolling."""
    program, shown = _program(page)

    assert len(program.body.splitlines()) <= MAX_LINES
    assert shown.follows


def _program(page: str) -> tuple[Fence, Fence]:
    """Return the program that imports this adapter, and what it shows."""
    adapter = f"from sessauth.guard.agents.{page.replace('-', '_')} import"
    (found,) = [pair for pair in pairwise(PAGE.fences()) if adapter in pair[0].body]
    return found


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
