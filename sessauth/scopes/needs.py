"""Needs: the costs of a call beyond matching a scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._fast.codec import base64url
from .._fast.codec.record import Record
from .argument_path import Path
from .value import Number, quoted


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """``threshold`` of these Ed25519 public keys (32 bytes each) must approve the call."""

    threshold: int
    keys: tuple[bytes, ...]

    def __str__(self) -> str:
        """Return the scope text."""
        return f"approval({', '.join([str(self.threshold), *(quoted(key_text(k)) for k in self.keys)])})"


@dataclass(frozen=True, slots=True)
class Budget(Record):
    """Each call takes ``amount``, an argument, in ``unit``, from the budget ``name`` of ``limit``."""

    name: str
    limit: Number
    amount: Path
    unit: str = ""

    def __str__(self) -> str:
        """Return the scope text."""
        unit = [quoted(self.unit)] if self.unit else []
        return f"budget({', '.join([quoted(self.name), str(self.limit), *unit, str(self.amount)])})"


_EMPTY_BUDGET: dict[str, Any] = {"name": "", "limit": None, "amount": None}


@dataclass(frozen=True, slots=True)
class Needs(Record):
    """The needs of a scope: an approval, a number of uses (0: no such limit), a budget; at least one."""

    approval: Approval | None = None
    uses: int = 0
    budget: Budget | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Needs:
        """Read the dict of message Needs; missing parts are empty."""
        approval, budget = record.get("approval"), record.get("budget")
        return cls(
            None if approval is None else Approval.from_record({"threshold": 0, "keys": (), **approval}),
            record.get("uses", 0),
            None if budget is None else Budget.from_record(_EMPTY_BUDGET | dict(budget)),
        )

    def __str__(self) -> str:
        """Return the scope text."""
        uses = f"uses({self.uses})" if self.uses else None
        return ", ".join(str(need) for need in (self.approval, uses, self.budget) if need)


def key_text(key: bytes) -> str:
    """Return a public key as scope text writes it: base64url without padding."""
    return base64url.encode(key)
