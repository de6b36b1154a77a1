"""Needs: what a scope costs a call beyond matching it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._fast.codec import base64url
from .argument_path import Path
from .value import Number, quoted


@dataclass(frozen=True, slots=True)
class Approval:
    """``threshold`` of these Ed25519 public keys (32 bytes each) must approve the call."""

    threshold: int
    keys: tuple[bytes, ...]

    def __str__(self) -> str:
        """Return the scope text."""
        return f"approval({', '.join([str(self.threshold), *(quoted(key_text(k)) for k in self.keys)])})"


@dataclass(frozen=True, slots=True)
class Budget:
    """Each call takes ``amount``, an argument, in ``unit``, from the budget ``name`` of ``limit``."""

    name: str
    limit: Number
    amount: Path
    unit: str = ""

    def __str__(self) -> str:
        """Return the scope text."""
        unit = [quoted(self.unit)] if self.unit else []
        return f"budget({', '.join([quoted(self.name), str(self.limit), *unit, str(self.amount)])})"


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be met: an approval, a number of uses (0: no such limit), a budget; at least one."""

    approval: Approval | None = None
    uses: int = 0
    budget: Budget | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Needs:
        """Return the needs of a wire dict of message ``Needs``."""
        approval, budget = record.get("approval"), record.get("budget")
        return cls(
            approval=None
            if approval is None
            else Approval(approval.get("threshold", 0), tuple(approval.get("keys", ()))),
            uses=record.get("uses", 0),
            budget=None if budget is None else _budget(budget),
        )

    def to_record(self) -> dict[str, object]:
        """Return the wire dict of message ``Needs``."""
        approval, budget = self.approval, self.budget
        return {
            "approval": None
            if approval is None
            else {"threshold": approval.threshold, "keys": list(approval.keys)},
            "uses": self.uses,
            "budget": None
            if budget is None
            else {
                "name": budget.name,
                "limit": budget.limit.to_record(),
                "unit": budget.unit,
                "amount": budget.amount.to_record(),
            },
        }

    def __str__(self) -> str:
        """Return the scope text."""
        uses = f"uses({self.uses})" if self.uses else None
        return ", ".join(str(need) for need in (self.approval, uses, self.budget) if need)


def _budget(record: Mapping[str, Any]) -> Budget:
    return Budget(
        name=record.get("name", ""),
        limit=Number.from_record(record.get("limit")),
        amount=Path.from_record(record.get("amount") or {}),
        unit=record.get("unit", ""),
    )


def key_text(key: bytes) -> str:
    """Return a public key as scope text writes it: base64url without padding."""
    return base64url.encode(key)
