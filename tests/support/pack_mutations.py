"""Changes to packs of evidence, made at random by people with ever more in their hands.

``anybody`` changes bytes. ``careful`` puts the archive and its manifest in order again, and can't sign.
``stranger`` signs everything with keys of their own. ``signer`` has the key that signs packs, and not the one
that signs the log: chains are computed anew, counts are right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final

from sessauth.audit.layout import AuditKey, signed_message
from tests.support.evidence_packs import OTHER, PackParts

STRANGER: Final = AuditKey(bytes(range(7, 39)))
_CHAIN: Final = b',"chain":"'
Lines = list[bytes]


def anybody(data: bytes, random: Random) -> bytes:
    """Flip, cut, put in, take out, repeat or exchange bytes."""
    at, size = random.randrange(len(data)), random.choice((1, 1, 2, 16, 65, 512, 1024))
    piece = data[at : at + size]
    match random.randrange(7):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data + random.choice((b"\0", bytes(512), b"{}\n", data[:512]))
        case 3:
            return data[:at] + data[at + size :]
        case 4:
            return data[:at] + piece + data[at:]
        case 5:
            return data[:at] + random.randbytes(len(piece)) + data[at + size :]
        case _:
            other = random.randrange(len(data) // 512 + 1) * 512
            block = at // 512 * 512
            swapped = bytearray(data)
            swapped[block : block + 512], swapped[other : other + 512] = (
                data[other : other + 512],
                data[block : block + 512],
            )
            return bytes(swapped)


def of_members(parts: PackParts, random: Random) -> PackParts:
    """Drop, repeat, exchange or reorder members."""
    copy = parts.copy()
    one, two = random.sample(range(len(copy.members)), 2)
    match random.randrange(5):
        case 0:
            del copy.members[one]
        case 1:
            copy.members.insert(two, copy.members[one])
        case 2:
            (first, content), (second, other) = copy.members[one], copy.members[two]
            copy.members[one], copy.members[two] = (first, other), (second, content)
        case 3:
            copy.members[one], copy.members[two] = copy.members[two], copy.members[one]
        case _:
            name, content = copy.members[one]
            copy.members[one] = (name, content + b"\n")
    return copy


def careful(parts: PackParts, random: Random) -> PackParts:
    """Change a member, and the manifest with it; the signature stays."""
    if random.random() < 0.3:
        changed = of_members(parts, random)
        return changed.restated() if _keeps_manifest(changed, parts) else changed
    return _changed(parts, random).restated()


def stranger(parts: PackParts, random: Random) -> PackParts:
    """Change a member, name keys of one's own beside the true ones, and sign."""
    copy = _changed(parts, random) if random.random() < 0.8 else parts.copy()
    if random.random() < 0.5 and copy["keys.json"] == parts["keys.json"]:
        keys = json.loads(copy["keys.json"])
        keys["audit"] = [[STRANGER.public_key.hex(), *of_host] for of_host in keys["audit"]]
        copy["keys.json"] = json.dumps(keys).encode()
    return copy.signed(STRANGER)


def signer(parts: PackParts, random: Random, key: AuditKey) -> PackParts:
    """Change the log as one who has the pack's key alone, and hide it as well as that permits."""
    copy = parts.copy()
    name = random.choice([name for name in copy.logs() if _matching_lines(copy[name])])
    lines = copy[name].splitlines(keepends=True)
    change = random.choice((_alter, _remove, _put_in, _exchange, _close, _cut))
    changed = change(lines, random)
    if changed == lines:
        return parts
    if random.random() < 0.7:
        changed = chained_anew(changed)
    copy[name] = b"".join(changed)
    return recounted(copy).signed(key)


def resigned_log(parts: PackParts, key: AuditKey) -> PackParts:
    """Return a copy whose log is signed by a key, which is named among those of the log."""
    copy = parts.copy()
    keys = json.loads(copy["keys.json"])
    keys["audit"] = [[key.public_key.hex(), *of_host] for of_host in keys["audit"]]
    copy["keys.json"] = json.dumps(keys).encode()
    for name in copy.logs():
        lines = chained_anew(copy[name].splitlines(keepends=True), name[8:40], key)
        copy[name] = b"".join(lines)
    return copy


def _changed(parts: PackParts, random: Random) -> PackParts:
    copy = parts.copy()
    name = random.choice([name for name, _ in copy.members if not name.startswith("manifest.")])
    content = copy[name]
    if name in copy.logs() and random.random() < 0.7:
        lines = content.splitlines(keepends=True)
        change = random.choice((_alter, _remove, _put_in, _exchange, _close, _cut))
        copy[name] = b"".join(chained_anew(change(lines, random)))
    else:
        copy[name] = anybody(content, random) if content else b"\n"
    return copy


def _keeps_manifest(changed: PackParts, parts: PackParts) -> bool:
    return changed.members[-2:] == parts.members[-2:]


def _matching_lines(content: bytes) -> list[int]:
    return [
        number
        for number, line in enumerate(content.splitlines())
        if b'"decision"' in line or b'"change"' in line
    ]


def _pick(lines: Lines, random: Random) -> int:
    return random.choice(_matching_lines(b"".join(lines)) or range(len(lines)))


def _alter(lines: Lines, random: Random) -> Lines:
    at = _pick(lines, random)
    edits: Sequence[Callable[[bytes], bytes]] = (
        lambda line: line.replace(b'"allowed":true', b'"allowed":false'),
        lambda line: line.replace(b'"allowed":false', b'"allowed":true'),
        lambda line: line.replace(b'"action":"read"', b'"action":"list"'),
        lambda line: line.replace(b'"session":"', b'"claimed":"'),
        lambda line: line.replace(b'"outcome":"APPLIED"', b'"outcome":"NOT_FOUND"'),
        lambda line: line.replace(b'"session":"0001', b'"session":"' + OTHER.hex()[:4].encode()),
    )
    return [*lines[:at], random.choice(edits)(lines[at]), *lines[at + 1 :]]


def _remove(lines: Lines, random: Random) -> Lines:
    at = _pick(lines, random)
    return [*lines[:at], *lines[at + 1 :]]


def _put_in(lines: Lines, random: Random) -> Lines:
    at, other = _pick(lines, random), _pick(lines, random)
    return [*lines[:at], lines[other], *lines[at:]]


def _exchange(lines: Lines, random: Random) -> Lines:
    one, two = _pick(lines, random), _pick(lines, random)
    copy = list(lines)
    copy[one], copy[two] = copy[two], copy[one]
    return copy


def _close(lines: Lines, random: Random) -> Lines:
    at = _pick(lines, random)
    return [*lines[:at], lines[at][-67:-3] + b"\n", *lines[at + 1 :]]


def _cut(lines: Lines, random: Random) -> Lines:
    return lines[: random.randrange(1, max(2, len(lines)))]


def chained_anew(lines: Lines, stream: str = "", key: AuditKey | None = None) -> Lines:
    """Number and chain lines anew; a checkpoint gets the chain before it, and with a key its signature."""
    first = json.loads(lines[0]) if lines[0].startswith(b"{") else {"n": 0, "previous": "00" * 32}
    head, made = bytes.fromhex(first.get("previous", "00" * 32)), []
    for n, line in enumerate(lines, start=first["n"]):
        if not line.startswith(b"{"):
            made.append(line)
            head = bytes.fromhex(line[:64].decode())
            continue
        inner = b'{"n":%d%b' % (n, line[line.index(b",") : -77])
        if b'"kind":"checkpoint"' in inner:
            record: dict[str, Any] = json.loads(inner + b"}")
            record |= {"head": head.hex(), "count": n}
            if key is not None:
                made_by = signed_message(bytes.fromhex(stream), n, head, record["at_ms"])
                record |= {"key": key.key_id.hex(), "signature": key.sign(made_by).hex()}
            inner = json.dumps(record, separators=(",", ":")).encode()[:-1]
        head = blake2b(b"sessauth/audit-chain/v1\x00" + head + inner, digest_size=32).digest()
        made.append(inner + _CHAIN + head.hex().encode() + b'"}\n')
    return made


def recounted(parts: PackParts) -> PackParts:
    """Put the counts of the manifest right, by what the log now has."""
    document = json.loads(parts["manifest.json"])
    wanted = set(document["question"]["sessions"])
    counts = {
        each["session"]: dict.fromkeys(("allowed", "denied", "claimed", "changes"), 0)
        for each in document["sessions"]
    }
    extents: dict[str, list[int]] = {}
    seqs = set()
    for name in parts.logs():
        lines = parts[name].splitlines()
        extent = extents.setdefault(
            name[8:40], [json.loads(lines[0])["n"] if lines[0][:1] == b"{" else 0, 0, 0]
        )
        extent[1] += len(lines)
        extent[2] += sum(line[:1] != b"{" for line in lines)
        for line in lines:
            record = json.loads(line) if line[:1] == b"{" else {}
            named = record.get("session") or record.get("claimed")
            if named not in wanted:
                continue
            if record["kind"] == "change":
                counts[named]["changes"] += record["seq"] not in seqs
                seqs.add(record["seq"])
            elif record["kind"] == "decision":
                sort = ("allowed" if record["allowed"] else "denied") if record.get("session") else "claimed"
                counts[named][sort] += 1
    for each in document["sessions"]:
        each |= counts[each["session"]]
    for host in document["hosts"]:
        for stream in host["streams"]:
            stream |= dict(
                zip(("first", "lines", "closed"), extents.get(stream["stream"], [0, 0, 0]), strict=True)
            )
    return parts.restated(sessions=document["sessions"], hosts=document["hosts"])
