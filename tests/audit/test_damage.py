"""Several kinds of damage at once: never missed, never more than a report can hold."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sessauth.audit.verify.lines import MAX_FAULTS, FindingKind
from sessauth.audit.verify.verify import verify
from tests.support.audit_log import Copy, kinds, write_small

Files = dict[str, list[bytes]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Give a closed stream of five files."""
    folder = tmp_path_factory.mktemp("log")
    write_small(folder, batches=10, each=3, rotate_bytes=5000)
    return Copy.of(folder)


def _damage(files: Files, foreign: list[bytes], dice: random.Random) -> None:
    """Do one thing to one line of a file."""
    name = dice.choice(sorted(files))
    lines = files[name]
    if not lines:
        return
    at = dice.randrange(len(lines))
    inside = dice.randrange(len(lines[at]))
    match dice.randrange(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(dice.randrange(len(lines) + 1), lines[at])
        case 2:
            other = dice.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            changed = bytearray(lines[at])
            changed[inside] ^= 1 << dice.randrange(8)
            lines[at] = bytes(changed)
        case 4:
            lines.insert(at, dice.choice(foreign))
        case 5:
            lines.insert(at, dice.randbytes(dice.randrange(200)) + b"\n")
        case 6:
            lines[at] = lines[at][:inside]
        case 7:
            lines[at] = lines[at][:inside] + b"\n" + lines[at][inside:]
        case _:
            files[dice.choice(sorted(files))].insert(0, lines.pop(at))


def test_no_mixture_of_damage_is_missed(log: Copy, tmp_path: Path) -> None:
    """One to five things done at random: a fault, unless it only cut the end of the last file."""
    foreign = write_small(tmp_path).read_bytes().splitlines(keepends=True)
    names = log.logs()
    missed = []
    for seed in range(150):
        dice = random.Random(seed)
        files = {name: log.files[name].splitlines(keepends=True) for name in names}
        for _ in range(dice.randint(1, 5)):
            _damage(files, foreign, dice)
        data = {name: b"".join(lines) for name, lines in files.items()}
        for name in names:
            (log.folder / name).write_bytes(data[name])
        told = verify(log.folder)
        before = all(data[name] == log.files[name] for name in names[:-1])
        if told.intact and not (before and log.files[names[-1]].startswith(data[names[-1]])):
            missed.append(seed)

    assert missed == []


def test_a_file_of_rubbish_gives_a_short_report(log: Copy) -> None:
    """A file whose every line is changed, or that is line feeds alone, is told in a bounded report."""
    log.restore()
    path = log.folder / log.logs()[-1]
    lines = log.files[path.name].splitlines(keepends=True)
    many = b"".join(line.replace(b"at_ms", b"at_mS") for line in lines * 200)
    for data in (many, b"\n" * 1_000_000, many[::-1]):
        path.write_bytes(data)
        report = verify(log.folder)
        assert 0 < len(report.findings) < 2 * MAX_FAULTS
    path.write_bytes(b"\n" * 1_000_000)
    assert FindingKind.FOREIGN in kinds(verify(log.folder))
