from collections.abc import Sequence
from pathlib import Path
from typing import Final

LIBRARY: Final[str]
NAMES: Final[tuple[str, ...]]

def load(paths: Sequence[str | Path] | None = None) -> str: ...
