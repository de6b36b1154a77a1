"""Write the map of controls for evidence packs, from the tables of docs/compliance.md."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compliance.md"
TARGET = ROOT / "sessauth" / "evidence" / "controls.json"
_TEST = re.compile(r"`(tests/[^`]+)`")
_LINK = re.compile(r"\]\((https://[^)]+)\)")


def of_page(text: str) -> dict[str, Any]:
    """Return the lists of the page: title, source, and rows with the tests that hold each."""
    lists = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        cells = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in body.splitlines()
            if line.startswith("|") and not line.startswith("| ---")
        ]
        source = _LINK.search(body)
        rows = [
            {"control": name, "does": does, "held_by": _TEST.findall(held), "not_covered": lacks}
            for name, does, held, lacks in cells[1:]
        ]
        lists.append({"title": title, "source": source[1] if source else "", "rows": rows})
    return {"format": 1, "lists": lists}


def encoded(document: dict[str, Any]) -> str:
    """Return the content of the file."""
    return json.dumps(document, indent=1) + "\n"


def main() -> int:
    """Write the file; with ``--check`` return 1 if it is not fresh."""
    made = encoded(of_page(PAGE.read_text(encoding="utf-8")))
    if "--check" in sys.argv[1:]:
        return int(TARGET.read_text(encoding="utf-8") != made)
    TARGET.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
