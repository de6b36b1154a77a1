"""One list of words and numbers: Python, proto, kernel and the document say the same."""

from __future__ import annotations

import re
from enum import IntEnum

import pytest

from sessauth import limits
from sessauth.reasons import Level, Reason, Stage, SurveyVerdict
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.tree import PACKAGE, ROOT

PROTO = ROOT / "proto" / "sessauth" / "v1"
KERNEL = PACKAGE / "_fast"

# Limits that only the edges hold: the kernel has no use for them.
NOT_IN_KERNEL = {
    "MIN_ID_PREFIX_DIGITS",
    "MIN_WORK",
    "WARN_TEXT_BYTES",
    "MAX_LABELS",
    "MAX_SESSION_ISSUER_KEYS",
    "MAX_REVOKE_BLOCK_IDS",
    "MAX_REQUEST_ID_BYTES",
    "MAX_OPEN_PERMITS",
    "MAX_OPEN_APPROVALS",
    "APPROVAL_TTL_MS",
    "MAX_APPROVAL_ARGUMENT_BYTES",
    "MAX_APPROVAL_SCOPE_BYTES",
    "MIN_STALENESS_MS",
    "MAX_VERIFIERS",
}


def proto_enum(name: str) -> dict[str, int]:
    """Return the members of a proto enum without their prefix, by reading the .proto files."""
    for path in sorted(PROTO.glob("*.proto")):
        match = re.search(rf"^enum {name} \{{(.*?)^\}}", path.read_text(encoding="utf-8"), re.M | re.S)
        if match:
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"
            members = re.findall(r"^\s*(\w+) = (\d+);", match[1], re.M)
            return {member.removeprefix(prefix): int(number) for member, number in members}
    raise AssertionError(f"no enum {name} in {PROTO}")


def kernel_constants() -> dict[str, int]:
    """Return every ``NAME = number`` of the kernel's .pxd enums; a name has one value in all of them."""
    constants: dict[str, int] = {}
    for path in sorted(KERNEL.rglob("*.pxd")):
        for name, number in re.findall(
            r"^    ([A-Z][A-Z0-9_]*) = (0x[0-9A-Fa-f]+|\d+)\b", path.read_text(encoding="utf-8"), re.M
        ):
            value = int(number, 0)
            assert constants.setdefault(name, value) == value, f"{path.name}: {name} has two values"
    return constants


@pytest.mark.parametrize(
    ("enum", "name", "default"),
    [
        (Reason, "Reason", "UNSPECIFIED"),
        (Stage, "Stage", "NONE"),
        (Level, "Level", "NONE"),
        (SurveyVerdict, "Verdict", "UNSPECIFIED"),
    ],
)
def test_python_words_are_the_proto_words(enum: type[IntEnum], name: str, default: str) -> None:
    """reasons.py and authorization_service.proto have the same members with the same numbers."""
    words = proto_enum(name)
    words[default] = words.pop("UNSPECIFIED")

    assert {member.name: int(member) for member in enum} == words


def test_kernel_reasons_are_the_python_reasons() -> None:
    """Each reason in the kernel's table has the number of reasons.py, and none is unknown there."""
    text = (KERNEL / "base" / "limits.pxd").read_text(encoding="utf-8")
    block = next(part for part in text.split("cdef enum:") if re.search(r"^\s+ALLOWED = ", part, re.M))
    table = {name: int(number) for name, number in re.findall(r"^\s+(\w+) = (\d+)", block, re.M)}

    assert len(table) >= 30
    assert table == {name: int(Reason[name]) for name in table}


def test_kernel_stages_and_levels_are_the_python_ones() -> None:
    """STAGE_x and LEVEL_x of the kernel are Stage.x and Level.x, all of them."""
    constants = kernel_constants()

    for enum, prefix in ((Stage, "STAGE_"), (Level, "LEVEL_")):
        table = {name.removeprefix(prefix): n for name, n in constants.items() if name.startswith(prefix)}
        assert table == {member.name: int(member) for member in enum}


def test_kernel_limits_are_the_python_limits() -> None:
    """Every limit that the kernel needs stands there with the value of limits.py."""
    constants = kernel_constants()
    expected = {
        name: value for name, value in vars(limits).items() if name.isupper() and name not in NOT_IN_KERNEL
    }
    # 2**53 - 1 doesn't fit an enum of C: it stands in the chain as a 64-bit constant.
    expected.pop("MAX_TIME_MS")

    assert {name: constants.get(name) for name in expected} == expected


# Section 12 of the document, row by row, and the names in limits.py that it speaks of.
DOCUMENTED = {
    "presented token": ("MAX_TOKEN_BYTES",),
    "blocks": ("MAX_BLOCKS",),
    "scopes in a block or ceiling layer": ("MAX_SCOPES",),
    "conditions in a scope, in a block's `where`": ("MAX_CONDITIONS",),
    "actions in a scope / characters of an action": ("MAX_ACTIONS", "MAX_ACTION_CHARS"),
    "segments in a resource / texts in a segment": ("MAX_SEGMENTS", "MAX_SEGMENT_TEXTS"),
    "free paths": ("MAX_FREE_PATHS",),
    "path segments": ("MAX_PATH_SEGMENTS",),
    "values of a condition": ("MAX_VALUES",),
    "audiences, sources, peers, approval keys": ("MAX_AUDIENCES",),
    "strings": ("MAX_STRING_BYTES",),
    "message nesting": ("MAX_NESTING",),
    "retry id": ("MAX_RETRY_ID_BYTES",),
    "a proof's time from the verifier's": ("PROOF_WINDOW_MS",),
    "a permit's deadline": ("MAX_PERMIT_MS",),
    "open permits, open approvals of a session": ("MAX_OPEN_PERMITS", "MAX_OPEN_APPROVALS"),
    "ancestors of a session": ("MAX_ANCESTORS",),
    "JSON: bytes / depth / values": ("MAX_JSON_BYTES", "MAX_JSON_DEPTH", "MAX_JSON_VALUES"),
    "work": ("MAX_WORK", "MIN_WORK"),
}


def test_documented_limits_are_the_python_limits() -> None:
    """The table of limits in docs/token-format.md has the rows and the numbers of limits.py."""
    section = (ROOT / "docs" / "token-format.md").read_text(encoding="utf-8").split("## 12 Limits")[1]
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", section, re.M)
    rows = [(what, limit) for what, limit in rows if what not in {"what", "---"}]

    assert {what for what, _ in rows} == set(DOCUMENTED)
    for what, limit in rows:
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", limit)]
        names = DOCUMENTED[what]
        assert numbers[: len(names)] == [getattr(limits, name) for name in names], what


def test_one_limit_for_audiences_sources_peers_and_approval_keys() -> None:
    """The document gives these four one number; so does limits.py."""
    four = {
        limits.MAX_AUDIENCES,
        limits.MAX_SOURCES,
        limits.MAX_PEERS,
        limits.MAX_APPROVAL_KEYS,
    }

    assert len(four) == 1


def test_the_kernel_reads_every_field_of_a_check() -> None:
    """CheckItem and Decision have the very fields that the kernel reads and writes, by number."""
    answer = (KERNEL / "rpc_codec" / "check_messages.pyx").read_text(encoding="utf-8")
    options = (KERNEL / "rpc_codec" / "item_options.pyx").read_text(encoding="utf-8")
    read = {
        name.lower(): int(number)
        for name, number in re.findall(r"^    FIELD_(\w+) = (\d+)$", answer + options, re.M)
    }
    item = {field.name: field.number for field in pb.CheckItem.DESCRIPTOR.fields}
    reply = (KERNEL / "rpc_codec" / "item_options.pyx").read_text(encoding="utf-8")
    body = reply[
        reply.index("    begin = _begin_message(out, field)\n    _number(out, 1, outcome.allowed)") :
    ]
    written = {int(number) for number in re.findall(r"_(?:number|put_bytes|position)\(\s*out, (\d+),", body)}

    # The kernel's view is never older than the state, so `view_age_ms` is always the default.
    first, last = re.findall(r"^    ATTACHED_(?:FIRST|LAST) = (\d+)$", options, re.M)
    attached = set(range(int(first), int(last) + 1))
    assert written | attached | {10} == {field.number for field in pb.Decision.DESCRIPTOR.fields}
    assert read == {name.removesuffix("_id"): number for name, number in item.items()}
    tokens = pb.CheckBatchRequest.DESCRIPTOR.fields_by_name["tokens"].number
    assert re.findall(r"^    BATCH_TOKENS = (\d+)$", answer, re.M) == [str(tokens)]
