"""Warnings about tools that an operator pins: hints that their own definitions contradict."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ...decisions.catalogue_tool import READ, Tool
from ...decisions.tool_catalog import ToolCatalog

# Tools that one warning names.
MAX_NAMED: Final = 8
# Words in the names of arguments, such as outputPath, save_path and dest.
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_TARGETS: Final = frozenset({"output", "out", "outfile", "save", "dest", "destination", "download", "export"})
_FILES: Final = frozenset({"file", "filename", "filepath", "path", "folder", "directory", "dir"})
# Words of a description for actions on a file.
_WRITES: Final = re.compile(
    r"\b(save[sd]?|saving|writ(e|es|ing|ten)|output|export(ed|s)?|download(ed|s)?)\b", re.I
)
# Format characters, private use and unassigned ones: a model reads them, and a person sees nothing.
_HIDDEN: Final = frozenset({"Cf", "Co", "Cn", "Cs", "Cc"})
_PLAIN: Final = frozenset("\n\r\t")


def definition_warnings(catalogue: ToolCatalog, definitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return points that an operator should look at before the catalogue is used, a line each.

    The names in it are printable only if the server's are.
    """
    known = [
        (tool, definition)
        for definition in definitions
        if isinstance(name := definition.get("name"), str) and (tool := catalogue.tool(name)) is not None
    ]
    writing = [
        f"{tool.name}({', '.join(found)})" for tool, each in known if (found := _files_written(tool, each))
    ]
    reaching = [tool.name for tool, _ in known if tool.action == READ and tool.open_world]
    hiding = [tool.name for tool, definition in known if _is_hiding(definition)]
    lines = []
    if writing:
        lines.append(
            f"a read that has an argument for a file to write: {_named(writing)}; correct it to write, "
            "or hold the argument"
        )
    if reaching:
        lines.append(
            f"a read that may reach the open world, and tell it things: {_named(reaching)}; "
            "hold its addresses and queries"
        )
    if hiding:
        lines.append(f"a definition with characters that nobody sees: {_named(hiding)}")
    return lines


def _files_written(tool: Tool, definition: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a read that name a file which it writes."""
    if tool.action != READ:
        return []
    schema = definition.get("inputSchema")
    arguments = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(arguments, Mapping):
        return []
    return [name for name, each in arguments.items() if _names_a_target(name, each)]


def _names_a_target(name: str, schema: Any) -> bool:
    words = {word.lower() for word in _WORD.findall(name)}
    about = schema.get("description", "") if isinstance(schema, Mapping) else ""
    written = isinstance(about, str) and _WRITES.search(about) is not None
    return bool(words & _FILES and (words & _TARGETS or written)) or name.lower() == "outfile"


def _is_hiding(definition: Mapping[str, Any]) -> bool:
    return any(
        char not in _PLAIN and unicodedata.category(char) in _HIDDEN
        for text in _texts(definition)
        for char in text
    )


def _texts(definition: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over the texts of a definition, without recursion: it may nest deeply."""
    waiting: list[Any] = [definition]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
