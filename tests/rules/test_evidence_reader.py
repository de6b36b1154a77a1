"""The reader of packs is a second reading: it shares nothing with what writes logs and packs."""

from __future__ import annotations

import sys

from tests.support.tree import PACKAGE, import_graph, imports, sources

READER = PACKAGE / "evidence" / "reader"
OURS = "sessauth.evidence.reader"


def test_it_imports_itself_the_standard_library_and_pynacl() -> None:
    """Lazy imports and those for types too: neither the kernel, nor the writer, nor anything else of ours."""
    ours = {target for targets in import_graph(READER).values() for target in targets}
    others = {
        target.split(".")[0] for path in sources(READER, ".py") for _, target in imports(path, type_only=True)
    } - {"sessauth", "__future__"}

    assert len(sources(READER, ".py")) > 8
    assert all(target.startswith(OURS) for target in ours), ours
    assert all(
        target.startswith(OURS)
        for path in sources(READER, ".py")
        for _, target in imports(path, type_only=True)
        if target.startswith("sessauth")
    )
    assert others - sys.stdlib_module_names == {"nacl"}
