"""A census as JSON and as a tree: every block of a session's tokens that any verifier saw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...limits import MAX_BLOCKS
from ...usage.observations import UseAfterEnd
from ..output import json_fields, moment, printable, table

if TYPE_CHECKING:
    from ...client import BlockCensus, Census, HostUsage, Missing

_MISSING = {
    "LOST": "some of it was lost, or found no room",
    "BEFORE": "the session is older than what this server knows of it",
    "HOST": "a host of the cluster has not reported all of it",
    "USAGE": "what its calls looked like was not asked for from its start on (setting usage.enabled)",
}


def to_json(session_id: bytes, census: Census) -> dict[str, Any]:
    """Return a census as JSON values."""
    blocks = [_block_json(block) for block in census.blocks]
    return {"session_id": session_id.hex(), **json_fields(census, blocks=blocks)}


def _block_json(block: BlockCensus) -> dict[str, Any]:
    says = None if block.info is None else block.info.to_dict()
    document = json_fields(block.observation, revoked=block.revoked, says=says)
    del document["payload"]
    return document


def to_lines(census: Census) -> list[str]:
    """Return a census as lines: a tree below each block without a parent or with an unreported one."""
    lines: list[str] = []
    known = {block.observation.block_id for block in census.blocks}
    left = dict.fromkeys(known)
    tops = [block for block in census.blocks if block.observation.parent_id not in known]
    for block in (*tops, *census.blocks):
        lines += _tree(census, block, 0, left)
    if not lines:
        lines.append("no block was seen")
    return [*lines, *late_lines(census.late), *missing_lines(census.missing), *host_lines(census.hosts)]


def _tree(census: Census, block: BlockCensus, depth: int, left: dict[bytes, None]) -> list[str]:
    """Return the lines of a block and its children; each block in ``left`` is shown once and removed."""
    observation = block.observation
    if observation.block_id not in left:
        return []
    del left[observation.block_id]
    name = "root block" if observation.index == 0 else f"block {observation.index}"
    if block.info is not None and block.info.label:
        name += f" {printable(block.info.label)!r}"
    branch = "   " * (depth - 1) + "└─ " if depth else ""
    lines = [f"{branch}{name}, {observation.block_id.hex()}" + (" REVOKED" if block.revoked else "")]
    stem = "   " * depth + "   "
    span = _span(observation.first_ms, observation.last_ms)
    lines.append(f"{stem}{observation.calls} calls, {observation.allowed} allowed, {span}")
    if depth < MAX_BLOCKS:
        for child in census.children(observation.block_id):
            lines += _tree(census, child, depth + 1, left)
    return lines


def late_lines(late: Iterable[UseAfterEnd]) -> list[str]:
    """Return uses after the end as lines."""
    lines = []
    for each in late:
        by = "only claimed: nobody looked at the signatures"
        if not each.claimed:
            by = f"with block {each.block_ids[-1].hex()}"
        lines.append(f"USED AFTER THE END {each.count} times, {_span(each.first_ms, each.last_ms)}, {by}")
    return lines


def missing_lines(missing: Iterable[Missing]) -> list[str]:
    """Return the reasons why blocks may be missing, as lines."""
    return [
        f"incomplete: {_MISSING.get(each.name, 'the server says that something is missing')}"
        for each in missing
    ]


def host_lines(hosts: Iterable[HostUsage]) -> list[str]:
    """Return the hosts of a cluster whose use is in a report, as lines."""
    rows = [
        [each.name, moment(each.since_ms), moment(each.reported_at_ms) or "never", _standing(each)]
        for each in hosts
    ]
    return ["", *table(("HOST", "SINCE", "REPORTED", ""), rows)] if rows else []


def _standing(host: HostUsage) -> str:
    words = [] if host.current else ["INCOMPLETE"]
    if host.waiting:
        words.append(f"{host.waiting} sessions to come")
    if host.removed_at_ms:
        words.append(f"removed {moment(host.removed_at_ms)}")
    return ", ".join(words)


def _span(first_ms: int, last_ms: int) -> str:
    first, last = moment(first_ms), moment(last_ms)
    return first if first == last else f"{first} to {last}"
