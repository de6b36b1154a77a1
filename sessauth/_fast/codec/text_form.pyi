from typing import Final

TRUNCATED: Final[int]
DAMAGED: Final[int]
MALFORMED: Final[int]

def decode(text: str, prefix_chars: int) -> bytes | int: ...
def proof_bytes(proof: bytes | str) -> bytes: ...
