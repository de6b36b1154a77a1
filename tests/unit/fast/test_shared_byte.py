"""Bits of a page's first byte: two processes change theirs at once, and neither loses one."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from sessauth._fast._check import clear_bits, set_bits
from sessauth.state.host import brake
from sessauth.state.host.brake import Brake

ROUNDS = 200_000
# The cluster's hold, again and again, until it is killed.
OTHER_PROCESS = """
import sys
from pathlib import Path
from sessauth.state.host.brake import Brake
page = Brake(Path(sys.argv[1]))
print(flush=True)
while True:
    page._set(4)
    page._clear(4)
"""


def test_no_bit_is_lost_between_processes(tmp_path: Path) -> None:
    """A person sets and clears while the cluster does: what was set stands, what was cleared does not."""
    path = tmp_path / "brake"
    brake.create(path)
    page = Brake(path)
    other = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, str(path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    lost = 0
    try:
        for _ in range(ROUNDS):
            page._set(2)
            lost += not page.by_hand.engaged
            page._clear(2)
            lost += page.by_hand.engaged
    finally:
        other.kill()
        other.communicate()
        page.close()
    assert lost == 0


def test_other_bits_and_bytes_stay() -> None:
    """Only the stated bits of the first byte change."""
    page = bytearray(b"\xa1\xff")
    set_bits(page, 6)
    assert page == b"\xa7\xff"
    clear_bits(page, 0x83)
    assert page == b"\x24\xff"


def test_a_page_that_is_none(tmp_path: Path) -> None:
    """One without a byte, and those that can't be written."""
    with pytest.raises(ValueError, match="at least one byte"):
        set_bits(bytearray(), 1)
    path = tmp_path / "page"
    path.write_bytes(bytes(16))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as page:
        for wrong in (page, b"\0"):
            with pytest.raises(BufferError):
                set_bits(wrong, 1)  # type: ignore[arg-type]
    for bits in (-1, 256):
        with pytest.raises(OverflowError):
            clear_bits(bytearray(1), bits)
