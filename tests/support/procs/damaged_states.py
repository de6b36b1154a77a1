"""Damage copies of a state folder by a seed, have each judged in a forked process, and count the ends.

    python -m tests.support.procs.damaged_states FOLDER SEED COUNT

This process itself never opens LMDB, so that a child may.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from sessauth.errors import StateError
from sessauth.model.change import end_session, revoke, suspend_session
from sessauth.reasons import Reason
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support import state_fixture
from tests.support.compare import judge_request
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import id16, make
from tests.vectors.world import AUDIENCE, ISSUER, NOW, ask, link, root

PAGE = 4096
MAP = 1 << 20
SESSIONS = 60
OK, REFUSED, WRONG, BROKEN = range(4)


def chain(name: str, label: str) -> bytes:
    """Return a token of a session."""
    return make(link(root("*:**", root_fields={"session_id": id16(name)}, label=label)), [ISSUER])


def make_state(folder: Path) -> None:
    """Write a state of sessions with revocations, ended, suspended and active ones, in turn."""
    state_fixture._MAP_BYTES = MAP
    state = StateFixture(folder)
    random = Random(1)
    for number in range(SESSIONS):
        name = f"s{number}"
        state.open(name)
        if number % 4 == 0:
            block_ids = [Token.parse(chain(name, "revoked")).block_ids[0]]
            block_ids += [random.randbytes(32) for _ in range(number)]
            state.do(revoke(f"r{number}", id16(name), block_ids))
    for number in range(SESSIONS):
        if number % 4 == 1:
            state.do(end_session(f"e{number}", id16(f"s{number}")))
        if number % 4 == 2:
            state.do(suspend_session(f"p{number}", id16(f"s{number}")))
    state.writer.close()


def dead() -> list[bytes]:
    """Return the tokens that are to be denied."""
    return [
        chain(f"s{number}", "revoked" if number % 4 == 0 else "any")
        for number in range(SESSIONS)
        if number % 4 != 3
    ]


def damage(data: bytearray, used: int, random: Random) -> str:
    """Damage the pages of a data file in one of five ways; return its name."""
    one, other = (random.randrange(used) * PAGE for _ in range(2))
    first, second = data[one : one + PAGE], data[other : other + PAGE]
    way = random.choice(("zeroed", "exchanged", "twice", "noise", "bit"))
    if way == "zeroed":
        data[one : one + PAGE] = bytes(PAGE)
    elif way == "exchanged":
        data[one : one + PAGE], data[other : other + PAGE] = second, first
    elif way == "twice":
        data[one : one + PAGE] = second
    elif way == "noise":
        at, length = one + random.randrange(PAGE), random.randrange(1, 64)
        data[at : at + length] = random.randbytes(length)
    else:
        data[one + random.randrange(PAGE)] ^= 1 << random.randrange(8)
    return way


def by_reader(folder: Path) -> int:
    """Judge as a verifier in a gateway does."""
    return judged(Verifier(StateReader.open(folder), audience=AUDIENCE))


def by_writer(folder: Path) -> int:
    """Judge as a server does, which verifies the state at its start."""
    writer = StateWriter.open(folder, map_size=MAP)
    writer.verify(600.0)
    return judged(Verifier(writer.source(), audience=AUDIENCE))


def judged(verifier: Verifier) -> int:
    """Return WRONG if a token is allowed that must not be."""
    for token in dead():
        if judge_request(verifier, token, ask(), now_ms=NOW).reason is Reason.ALLOWED:
            return WRONG
    return OK


def apart(work: Callable[[Path], int], folder: Path) -> str:
    """Run ``work`` in a forked process; return what became of it."""
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = work(folder)
        except StateError:
            code = REFUSED
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "died" if status < 0 else ("ok", "refused", "WRONG", "broken")[status]


def main(target: Path, seed: int, count: int) -> None:
    """Print the numbers of each kind of damage and end, and the numbers of those that were wrong."""
    whole = target / "whole"

    def made(folder: Path) -> int:
        make_state(folder)
        return OK

    if apart(made, whole) != "ok":
        raise SystemExit("the state could not be made")
    page_bytes = (whole / "data.mdb").read_bytes()
    used = len(page_bytes.rstrip(b"\0")) // PAGE + 1
    ends: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        random = Random(f"{seed}/{number}")
        folder = target / "damaged"
        for work in (by_reader, by_writer):
            shutil.copytree(whole, folder)
            data = bytearray(page_bytes)
            random.seed(f"{seed}/{number}")
            way = damage(data, used, random)
            (folder / "data.mdb").write_bytes(data)
            end = apart(work, folder)
            ends[f"{work.__name__} {way} {end}"] += 1
            if end in ("WRONG", "broken"):
                wrong.append(f"{number} {work.__name__} {way} {end}")
            shutil.rmtree(folder)
    sys.stdout.write(json.dumps({"ends": ends, "wrong": wrong, "pages": used}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
