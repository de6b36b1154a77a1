from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["canonical", "encode", "judged"]

_Arguments: TypeAlias = bytes | str | Mapping[str, Any]

def canonical(arguments: _Arguments) -> bytes: ...
def encode(arguments: _Arguments) -> bytes: ...
def judged(arguments: _Arguments) -> bytes: ...
