"""``sessauth decision``: the reason for a recorded answer, from the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import params
from ..context import Settings, with_settings
from ..output import fields, moment, printable, table

if TYPE_CHECKING:
    from ...audit.read.decision_context import DecisionContext


@click.group()
def decision() -> None:
    """Explain decisions that were made."""


@decision.command("show")
@click.argument("decision_id", type=params.decision_id)
@params.audit_dir_option
@with_settings
def show(settings: Settings, decision_id: bytes, folder: Path | None) -> None:
    """Show why exactly a call was allowed or denied, with its token and its session's changes."""
    from ...audit.read.decision_context import load_context
    from ...audit.read.reader import FolderReader

    context = load_context(FolderReader(settings.audit_dir(folder)), decision_id)
    settings.show(_json(context), _lines(context))


def _json(context: DecisionContext) -> dict[str, Any]:
    return {
        "decision": context.entry.record,
        "stream": context.entry.stream.hex(),
        "file": context.entry.path.name,
        "line": context.entry.line,
        "meaning": context.meaning,
        "explanation": context.explanation,
        "blocks": [block.to_dict() for block in context.blocks],
        "ceilings": [[str(scope) for scope in layer] for layer in context.ceilings],
        "changes": [entry.record for entry in context.changes],
    }


def _call(record: Mapping[str, Any]) -> str:
    if record.get("token_only") is True:
        return "none: the token alone was checked"
    return f"{record.get('action', '')} {record.get('resource', '')}"


def _lines(context: DecisionContext) -> list[str]:
    record, judged = context.entry.record, context.decision
    allowed = "ALLOWED by observe mode alone" if judged.observed else "ALLOWED"
    word = allowed if judged else f"DENIED at stage {judged.stage.name.lower()}: {judged.reason.name}"
    explained = context.explanation.removeprefix("ALLOWED").removeprefix(f"{judged.reason.name}: ").strip()
    lines = [
        word,
        f"  means: {context.meaning}",
        *([f"  {printable(explained)}"] if explained not in ("", context.meaning) else []),
        *fields(
            [
                ("time", moment(context.entry.at_ms)),
                ("call", _call(record)),
                ("arguments", "digest " + str(record["arguments"]) if record.get("arguments") else ""),
                ("audience", record.get("audience", "")),
                ("source", record.get("source", "")),
                ("session", judged.session_id.hex()),
                ("claimed session", record.get("claimed", "")),
                ("epoch", judged.epoch or ""),
                ("revision", judged.revision or ""),
                ("recorded", f"{context.entry.path.name}:{context.entry.line}"),
            ]
        ),
    ]
    if context.blocks:
        lines.append("token:")
    for block in context.blocks:
        lines.append(f"  {block.name}, {block.block_id.hex()}")
        lines += [f"    {printable(str(scope))}" for scope in block.scopes]
    if context.changes:
        lines.append("changes of the session:")
        lines += table(
            ("TIME", "REVISION", "CHANGE", "OUTCOME", "BY", ""),
            [
                [
                    moment(entry.at_ms),
                    entry.record.get("revision", ""),
                    entry.record.get("change", ""),
                    entry.record.get("outcome", ""),
                    entry.record.get("actor", ""),
                    "" if entry.record.get("revision", 0) <= judged.revision else "after the decision",
                ]
                for entry in context.changes
            ],
        )
    return lines
