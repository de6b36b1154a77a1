"""``sessauth decision``: why a call was answered as it was, from the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import params
from ..audit_folder import audit_folder, dir_option
from ..context import Settings, with_settings
from ..output import fields, moment, printable, table

if TYPE_CHECKING:
    from ...audit.read.decision_context import DecisionContext


@click.group()
def decision() -> None:
    """Explain decisions that were made."""


@decision.command("show")
@click.argument("decision_id", type=params.decision_id)
@dir_option
@with_settings
def show(settings: Settings, decision_id: bytes, folder: Path | None) -> None:
    """Show why exactly a call was allowed or denied, with its token and its session's changes."""
    from ...audit.read.decision_context import load_context
    from ...audit.read.reader import FolderReader

    story = load_context(FolderReader(audit_folder(settings, folder)), decision_id)
    settings.show(_json(story), _lines(story))


def _json(story: DecisionContext) -> dict[str, Any]:
    return {
        "decision": story.entry.record,
        "stream": story.entry.stream.hex(),
        "file": story.entry.path.name,
        "line": story.entry.line,
        "meaning": story.meaning,
        "explanation": story.explanation,
        "blocks": [block.to_dict() for block in story.blocks],
        "ceilings": [[str(scope) for scope in layer] for layer in story.ceilings],
        "changes": [entry.record for entry in story.changes],
    }


def _lines(story: DecisionContext) -> list[str]:
    record, judged = story.entry.record, story.decision
    word = "ALLOWED" if judged else f"DENIED at stage {judged.stage.name.lower()}: {judged.reason.name}"
    explained = story.explanation.removeprefix("ALLOWED").removeprefix(f"{judged.reason.name}: ").strip()
    lines = [
        word,
        f"  means: {story.meaning}",
        *([f"  {printable(explained)}"] if explained else []),
        *fields(
            [
                ("time", moment(story.entry.at_ms)),
                ("call", f"{record.get('action', '')} {record.get('resource', '')}"),
                ("arguments", "digest " + str(record["arguments"]) if record.get("arguments") else ""),
                ("audience", record.get("audience", "")),
                ("source", record.get("source", "")),
                ("session", judged.session_id.hex()),
                ("claimed session", record.get("claimed", "")),
                ("epoch", judged.epoch or ""),
                ("revision", judged.revision or ""),
                ("recorded", f"{story.entry.path.name}:{story.entry.line}"),
            ]
        ),
    ]
    if story.blocks:
        lines.append("token:")
    for block in story.blocks:
        lines.append(f"  {block.name}, {block.block_id.hex()}")
        lines += [f"    {printable(str(scope))}" for scope in block.scopes]
    if story.changes:
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
                for entry in story.changes
            ],
        )
    return lines
