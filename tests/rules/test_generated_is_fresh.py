"""Generated files that are committed are what their generators write today.

``buf`` compiles proto/ without the old toolchain that makes the stubs; ``make proto-check`` also compares
the files byte by byte with a fresh generation.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.support.tree import PACKAGE, ROOT

PROTO = ROOT / "proto"
NAMES = sorted(path.stem for path in (PROTO / "sessauth" / "v1").glob("*.proto"))
# The messages of other gateways and of engines.
OTHERS = sorted(
    path.relative_to(PROTO)
    for folder in ("gateways", "carriers")
    for path in (PROTO / "sessauth" / folder).rglob("*.proto")
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a descriptor set of proto/, compiled now."""
    beside_python = Path(sys.executable).with_name("buf")
    buf = str(beside_python) if beside_python.exists() else shutil.which("buf")
    if buf is None:
        pytest.skip("buf is not installed (dependency group lint); make proto-check compares too")
    target = tmp_path_factory.mktemp("proto") / "descriptors.bin"
    subprocess.run(
        [buf, "build", str(ROOT / "proto"), "--exclude-source-info", "-o", f"{target}#format=binpb"],
        check=True,
    )
    return target


def _plain(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Return a copy without what only some compilers write out: JSON names, buf's own extension."""
    copy = descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString())
    copy.DiscardUnknownFields()
    pending = list(copy.message_type)
    while pending:
        message = pending.pop()
        pending += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return copy


@pytest.mark.parametrize("name", [*(f"sessauth/v1/{name}.proto" for name in NAMES), *map(str, OTHERS)])
def test_stubs_hold_todays_proto(compiled: Path, name: str) -> None:
    """The descriptor inside each committed stub equals the one compiled from proto/ now."""
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    fresh = next(file for file in files if file.name == name)
    stub = importlib.import_module(f"{name.removesuffix('.proto').replace('/', '.')}_pb2")
    committed = descriptor_pb2.FileDescriptorProto.FromString(stub.DESCRIPTOR.serialized_pb)

    assert _plain(committed) == _plain(fresh)


def test_there_is_a_stub_for_each_proto_and_no_other() -> None:
    """sessauth/v1 holds the stubs of the files in proto/ and nothing written by hand."""
    expected = {"__init__.py"}
    for name in NAMES:
        expected |= {f"{name}_pb2.py", f"{name}_pb2.pyi", f"{name}_pb2_grpc.py"}

    assert {path.name for path in (PACKAGE / "v1").iterdir() if path.is_file()} == expected


@pytest.mark.parametrize("folder", sorted({str(path.parent) for path in OTHERS}))
def test_there_is_a_stub_for_each_proto_of_others(folder: str) -> None:
    """Without services: their RPCs are served and called by the paths of others."""
    expected = {"__init__.py"}
    for path in OTHERS:
        if str(path.parent) == folder:
            expected |= {f"{path.stem}_pb2.py", f"{path.stem}_pb2.pyi"}

    assert {path.name for path in (ROOT / folder).iterdir() if path.is_file()} == expected


def test_kernel_table_is_fresh(compiled: Path, tmp_path: Path) -> None:
    """sessauth/_fast/codec/schema.py is what tools/generate_schema.py prints for proto/ now."""
    everything = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    signed = descriptor_pb2.FileDescriptorSet()
    for name in ("token", "record", "log_record", "receipt", "group_record", "caller_statement"):
        signed.file.append(next(f for f in everything.file if f.name == f"sessauth/v1/{name}.proto"))
    (tmp_path / "signed.bin").write_bytes(signed.SerializeToString())

    printed = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "generate_schema.py"), str(tmp_path / "signed.bin")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert (PACKAGE / "_fast" / "codec" / "schema.py").read_text(encoding="utf-8") == printed


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is not installed (group lint)")
def test_the_blocking_client_is_fresh() -> None:
    """The blocking calls are what tools/generate_sync_client.py writes from the asyncio ones now."""
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "generate_sync_client.py"), "--check"],
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("package", ["client", "verifier"])
def test_the_blocking_calls_mention_nothing_asynchronous(package: str) -> None:
    """Names, phrases and docstrings of the asyncio calls are all replaced, so that no table forgot one."""
    files = sorted((PACKAGE / package / "_sync").glob("*.py"))
    texts = {path.name: path.read_text(encoding="utf-8").partition("\n\n")[2] for path in files}

    assert len(texts) == len(list((PACKAGE / package / "_async").glob("*.py")))
    assert {name for name, text in texts.items() if re.search(r"async|await|\btask", text, re.I)} == set()
