"""The documents say what the code does, and their links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import re
from itertools import pairwise

import click
import pytest

from sessauth.cli.main import cli
from sessauth.reasons import Reason, Stage
from sessauth.server.config import SECTIONS
from sessauth.server.rpc.access import RULES
from tests.support.markdown import Document
from tests.support.tree import PACKAGE, ROOT, sources

DOCUMENTS = [Document(path) for path in sources(ROOT, ".md")]
DOCS = ROOT / "docs"
OPERATIONS = DOCS / "operations"
_PAGE = re.compile(r"\b(docs/[\w/-]+\.md)(#[\w-]+)?")
REASONS = Document(DOCS / "reasons.md")
SETTINGS = Document(OPERATIONS / "settings.md")
CREDENTIALS = Document(OPERATIONS / "credentials.md")
STATE_FOLDER = Document(OPERATIONS / "state-folder.md")


def _name(document: Document) -> str:
    return str(document.path.relative_to(ROOT))


def test_every_reason_has_its_paragraph() -> None:
    """docs/reasons.md has one heading for each reason, in the order of their numbers, and no other."""
    assert REASONS.headings(3) == [reason.name for reason in Reason]


def test_every_reason_stands_below_its_stage() -> None:
    """The tens of a reason's number are those of its stage, and so is its place in the document."""
    by_stage = re.split(r"^## ", REASONS.text, flags=re.M)

    for reason in Reason:
        title = f"Stage {Stage(int(reason) // 10).name.lower()}" if int(reason) >= 10 else "No stage"
        section = next(part for part in by_stage if part.startswith(title + "\n"))
        assert f"### {reason.name}\n" in section


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_reason_is_explained(reason: Reason) -> None:
    """A reason's paragraph says what it means, and what to do or that it is reserved."""
    paragraph = REASONS.sections(3)[reason.name]

    assert "Means" in paragraph
    assert ("Fault:" in paragraph and "Do:" in paragraph) or "Reserved:" in paragraph or reason.value == 1
    assert len(paragraph.split()) >= 15


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document: Document) -> None:
    """Each relative link names a file that exists, and an anchor in it that exists."""
    broken = []
    for link in [*document.links(), *document.pictures()]:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (document.path.parent / file).resolve() if file else document.path
        if not target.exists() or (fragment and fragment not in Document(target).anchors()):
            broken.append(link)

    assert broken == []


def test_documents_that_files_name_exist() -> None:
    """Each ``docs/page.md#anchor`` in code, settings and alarms is a page, and an anchor in it."""
    broken = []
    kinds = (".py", ".pyx", ".pyi", ".toml", ".yml")
    for path in [*sources(PACKAGE, *kinds), *sources(DOCS, *kinds)]:
        for page, fragment in _PAGE.findall(path.read_text(encoding="utf-8")):
            document = Document(ROOT / page)
            if not document.path.exists() or (fragment and fragment[1:] not in document.anchors()):
                broken.append(f"{path.relative_to(ROOT)}: {page}{fragment}")

    assert broken == []


def test_an_index_names_every_page() -> None:
    """docs/README.md leads to each page beside it, of how-to and of operations, and to the reference."""
    page = Document(DOCS / "README.md")
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in page.links()}
    pages = {path for folder in ("", "how-to", "operations") for path in (DOCS / folder).glob("*.md")}

    assert DOCS / "reference" / "README.md" in linked
    assert {path.name for path in pages - linked} - {"README.md"} == set()
    assert len(pages) >= 24


@pytest.mark.parametrize(("folder", "most"), [("operations", 250), ("how-to", 120)])
def test_pages_are_short(folder: str, most: int) -> None:
    """A page of reference has at most 250 lines, one that shows how to do something at most 120."""
    lengths = {
        page.name: page.read_text(encoding="utf-8").count("\n") for page in (DOCS / folder).glob("*.md")
    }

    assert {name: length for name, length in lengths.items() if length > most} == {}


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def _shell_lines(document: Document) -> list[str]:
    """Return what a reader would type: lines of fenced blocks without language, and inline code."""
    lines = [
        line
        for language in ("", "sh", "console")
        for block in document.blocks(language)
        for line in block.splitlines()
    ]
    return [re.sub(r"^\$ ", "", line).split("#")[0].strip() for line in [*lines, *document.inline_code()]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_make_targets_that_are_named_exist(document: Document) -> None:
    """Every ``make x`` in a document is a target of the Makefile."""
    named = {
        match[1] for line in _shell_lines(document) if (match := re.match(r"make ([a-z][a-z-]*)\b", line))
    }

    assert named - _make_targets() == set()


def _unknown_part(words: list[str]) -> str:
    """Return the first word that is neither a command, an option of it, nor an argument; "" if all are."""
    if words == ["help", "exit-codes"]:
        return ""
    command: click.Command = cli
    options = _options(command)
    values = _options_with_value(command)
    for before, word in pairwise(["", *words]):
        if word.startswith("-"):
            if word.split("=")[0] not in options:
                return word
        elif isinstance(command, click.Group) and before not in values:
            found = command.get_command(click.Context(command), word)
            if found is None:
                return word
            command = found
            options |= _options(command)
            values |= _options_with_value(command)
    return ""


def _options_with_value(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
    }


def _options(command: click.Command) -> set[str]:
    return {"--help"} | {
        name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_commands_that_are_named_exist(document: Document) -> None:
    """Every ``sessauth x y --option`` in a document is a command of the CLI that has the option.

    What follows a lone ``--`` is another command.
    """
    unknown = [
        line
        for line in _shell_lines(document)
        if re.match(r"sessauth [a-z]", line) and _unknown_part(re.split(r" \| | -- ", line)[0].split()[1:])
    ]

    assert unknown == []


def test_every_setting_is_documented() -> None:
    """The table in docs/operations/settings.md names each key of the configuration, and no other."""
    known = {
        f"{section}.{entry.name}" for section, kind in SECTIONS.items() for entry in dataclasses.fields(kind)
    }
    named = set(re.findall(r"`((?:" + "|".join(SECTIONS) + r")\.[a-z_]+)`", SETTINGS.sections(1)["Settings"]))

    assert named == known


def test_documented_defaults_are_the_defaults() -> None:
    """Each number in the table of settings is the default of the key beside it."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", SETTINGS.sections(1)["Settings"], re.M)
    checked = 0
    for keys, defaults in rows:
        names = re.findall(r"`([a-z_]+)\.([a-z_]+)`", keys)
        numbers = re.findall(r"\d+", defaults)
        if numbers:
            assert [int(n) for n in numbers] == [getattr(SECTIONS[s](), key) for s, key in names], keys
            checked += len(numbers)

    assert checked >= 10


def test_the_table_of_roles_is_the_servers() -> None:
    """Each call of the service stands in docs/operations/credentials.md with the roles that may make it."""
    rows = re.findall(
        r"^\| ((?:`\w+` ?)+) \| ([a-z, -]+) \|$", CREDENTIALS.sections(2)["Credentials and roles"], re.M
    )
    documented = {
        call: frozenset(roles.split(", ")) for calls, roles in rows for call in re.findall(r"`(\w+)`", calls)
    }

    served = {
        method.rpartition("/")[2]: rule.roles
        for method, rule in RULES.items()
        if not method.startswith("/grpc.health.")
    }
    assert documented == served


_REFUSALS = {"refuse", "StateUnusable"}


def _problem_words() -> set[str]:
    """Return the words that the code refuses a state folder with."""
    words: set[str] = set()
    for path in sources(PACKAGE, ".py"):
        text = path.read_text(encoding="utf-8")
        # Few files have such a call, and to parse all of them takes seconds.
        if not any(f"{name}(" in text for name in _REFUSALS):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REFUSALS:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                words |= {
                    str(argument.value)
                    for argument in given
                    if isinstance(argument, ast.Constant) and re.fullmatch("[A-Z_]+", str(argument.value))
                }
    return words


def test_every_refusal_of_preflight_is_documented() -> None:
    """docs/operations/state-folder.md explains each word of a refused state folder, and no other."""
    section = STATE_FOLDER.sections(2)["What preflight refuses"]

    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section, re.M)) == _problem_words()


def test_the_glossary_is_in_order() -> None:
    """Words are found by the alphabet."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*([a-z ]+)\*\* \|", text, re.M)

    assert len(words) > 40
    assert words == sorted(words)


def test_decisions_are_numbered_without_gaps() -> None:
    """docs/decisions.md holds 1, 2 … in order, each with its date, the choice, why and the rejected ones."""
    page = Document(DOCS / "decisions.md")

    numbers = [int(title.partition(".")[0]) for title in page.headings(2)]

    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
    for title, section in page.sections(2).items():
        assert re.search(r"^\*\d{4}-\d\d", section, re.M), title
        said = re.findall(r"^- \*\*(Decision|Why|Rejected)\.", section, re.M)
        assert said == ["Decision", "Why", "Rejected"], title
