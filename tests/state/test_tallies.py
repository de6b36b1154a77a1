"""Tallies of revoked blocks: written with each change, and the proof that a block is not revoked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import lmdb
import pytest

from sessauth.errors import StateUnusable
from sessauth.model.change import end_session, purge_session, revoke
from sessauth.reasons import Reason, Stage
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb import rows as tallies
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.compare import judge_request
from tests.support.state_fixture import NOW, StateFixture
from tests.support.token_forger import id16, make
from tests.vectors.world import AUDIENCE, ISSUER, ask, child, link, root, signers

ID, OTHER = id16("session"), id16("other")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFixture]:
    """A state with two open sessions."""
    made = StateFixture(tmp_path / "state")
    made.open("other")
    yield made
    made.writer.close()


@pytest.fixture
def writer(state: StateFixture) -> StateWriter:
    """Its writer."""
    return state.writer


def blocks(random: Random, count: int, prefix: bytes = b"") -> list[bytes]:
    """Return ids of blocks, some close together."""
    return [prefix + random.randbytes(32 - len(prefix)) for _ in range(count)]


def revoke_all(writer: StateWriter, session_id: bytes, block_ids: list[bytes], step: int = 200) -> None:
    """Revoke blocks, a few at a time."""
    for at in range(0, len(block_ids), step):
        part = block_ids[at : at + step]
        assert writer.submit(revoke(part[0].hex(), session_id, part)).result().applied


def table(writer: StateWriter) -> list[tuple[bytes, bytes]]:
    """Return the rows of all tallies."""
    with writer.source().rows() as rows, rows.txn.cursor(db=rows.tables[layout.TALLIES]) as cursor:
        return [(bytes(key), bytes(value)) for key, value in cursor]


@pytest.mark.parametrize(
    ("count", "prefix", "step"),
    [
        (16, b"", 5),
        (17, b"", 17),
        (400, b"", 7),
        (400, b"\x07", 200),
        (60, b"\x07" * 30, 11),
        (2_500, b"", 200),
    ],
)
def test_they_are_those_of_the_set(writer: StateWriter, count: int, prefix: bytes, step: int) -> None:
    """However the blocks came, the rows are those that building makes; purged, they are gone."""
    random = Random(count)
    revoke_all(writer, ID, [*blocks(random, 20), *blocks(random, count, prefix)], step)
    revoke_all(writer, OTHER, blocks(random, 30))
    written = table(writer)
    assert len(written) > 1
    counts = writer.run(lambda group: verify(group.rows))
    assert counts.revoked == 20 + count + 30

    writer.run(lambda group: tallies.build(group.rows.txn, group.rows.tables))
    assert table(writer) == written
    writer.submit(end_session("end", ID)).result()
    writer.submit(purge_session("purge", ID)).result()
    assert {key[:16] for key, _ in table(writer)} == {OTHER}


Damage = Callable[[lmdb.Transaction, TxnRows], None]


def lose(session_id: bytes, table_name: str, at: int) -> Damage:
    """Return the loss of a row of a session."""

    def damage(txn: lmdb.Transaction, rows: TxnRows) -> None:
        key = rows.keys_after(table_name, b"", 10_000, session_id)[at]
        txn.delete(key, db=rows.tables[table_name])

    return damage


def exchange(txn: lmdb.Transaction, rows: TxnRows) -> None:
    """Put the first tally of each session in the other one's place."""
    handle = rows.tables[layout.TALLIES]
    first, second = txn.get(ID, b"", db=handle), txn.get(OTHER, b"", db=handle)
    txn.put(ID, second, db=handle)
    txn.put(OTHER, first, db=handle)


def replace_one(txn: lmdb.Transaction, rows: TxnRows) -> None:
    """Put another block in the place of one: the number is right."""
    handle = rows.tables[layout.REVOKED]
    key = rows.keys_after(layout.REVOKED, b"", 1, ID)[0]
    value = txn.get(key, b"", db=handle)
    txn.delete(key, db=handle)
    txn.put(key[:-1] + bytes((key[-1] ^ 1,)), value, db=handle)


DAMAGES: list[tuple[str, int, Damage]] = [
    ("a revocation of few", 3, lose(ID, layout.REVOKED, 0)),
    ("all of few", 1, lose(ID, layout.REVOKED, 0)),
    ("the first tally", 40, lose(ID, layout.TALLIES, 0)),
    ("another session's tally", 40, exchange),
    ("another block in its place", 40, replace_one),
]


def chain_of(label: str) -> tuple[bytes, bytes]:
    """Return a token of one block, and the block's id."""
    data = make(link(root("*:**", label=label)), [ISSUER])
    return data, Token.parse(data).block_ids[0]


def reasons(state: StateFixture, labels: Iterable[object]) -> set[Reason]:
    """Return the reasons for which tokens that were not seen before are judged as they are."""
    return {state.reason(chain_of(str(label))[0]) for label in labels}


@pytest.mark.parametrize(("name", "count", "damage"), DAMAGES, ids=[name for name, *_ in DAMAGES])
def test_revocations_that_do_not_add_up_deny(
    state: StateFixture, writer: StateWriter, name: str, count: int, damage: Damage
) -> None:
    """A token is not allowed by the loss of its revocation's row: its session is denied STALE_STATE."""
    random = Random(name)
    data, block_id = chain_of("revoked")
    others = [block_id[:1] + each[1:] for each in blocks(random, count - 1)]
    revoke_all(writer, ID, [block_id, *others])
    revoke_all(writer, OTHER, blocks(random, count))
    assert state.reason(data) is Reason.REVOKED
    assert reasons(state, range(20)) == {Reason.ALLOWED}

    source = writer.source()
    with source.env.begin(write=True) as txn:
        damage(txn, TxnRows(txn, source.tables))
        # The block's own row is lost as well.
        txn.delete(ID + block_id, db=source.tables[layout.REVOKED])
    state.verifier = Verifier(source, audience=AUDIENCE)
    decision = state.check(data)
    assert (decision.reason, decision.stage) == (Reason.STALE_STATE, Stage.SESSION)
    with pytest.raises(StateUnusable, match="revo"), source.rows() as rows:
        verify(rows)


@pytest.mark.parametrize("count", [1, 16, 40])
@pytest.mark.parametrize("byte", [1, 13, 31])
def test_a_flipped_bit_of_its_id_denies(
    state: StateFixture, writer: StateWriter, count: int, byte: int
) -> None:
    """A row whose bits no longer are those of the revoked block is not taken for another block's."""
    data, block_id = chain_of("revoked")
    revoke_all(writer, ID, [block_id, *blocks(Random(byte), count - 1)])
    flipped = block_id[:byte] + bytes((block_id[byte] ^ 1,)) + block_id[byte + 1 :]
    source = writer.source()
    with source.env.begin(write=True) as txn:
        handle = source.tables[layout.REVOKED]
        txn.put(ID + flipped, txn.get(ID + block_id, b"", db=handle), db=handle)
        txn.delete(ID + block_id, db=handle)
    state.verifier = Verifier(source, audience=AUDIENCE)
    assert state.reason(data) is Reason.STALE_STATE
    with pytest.raises(StateUnusable, match="revo"), source.rows() as rows:
        verify(rows)


@pytest.mark.parametrize("count", [17, 300, 3_000])
def test_what_is_not_revoked_is_allowed(state: StateFixture, writer: StateWriter, count: int) -> None:
    """Among many revocations every other block of the session is shown to be none of them."""
    labels = [f"revoked {number}" for number in range(12)]
    revoke_all(writer, ID, [*(chain_of(label)[1] for label in labels), *blocks(Random(count), count)])
    assert reasons(state, labels) == {Reason.REVOKED}
    assert reasons(state, range(100)) == {Reason.ALLOWED}


@pytest.mark.parametrize("seed", range(6))
def test_families_are_denied_as_by_one_who_never_saw_them(
    state: StateFixture, writer: StateWriter, seed: int
) -> None:
    """Parents and siblings that were checked before a revocation say nothing wrong about their children.

    A verifier that saw the family grow decides as a new one does, whichever block is revoked between.
    """
    random = Random(seed)
    families: list[list[str]] = [["root"]]
    revoked: list[bytes] = []
    for step in range(60):
        line = random.choice(families)
        if len(line) < 4 and step % 3:
            line = [*line, f"child {step}"]
            families.append(line)
        labels = [*line[1:], f"leaf {step}"]
        data = make(link(root("*:**"), *(child(label=label) for label in labels)), signers(len(line) + 1))
        ids = Token.parse(data).block_ids
        wanted = Reason.REVOKED if set(ids) & set(revoked) else Reason.ALLOWED
        assert state.reason(data) is wanted
        new = Verifier(writer.source(), audience=AUDIENCE)
        assert judge_request(new, data, ask(), now_ms=NOW).reason is wanted
        if step % 10 == 9:
            # Not the root: all would be denied from then on.
            revoked.append(random.choice(ids[1:]))
            revoke_all(writer, ID, revoked[-1:])


def test_a_folder_of_before_gets_them(state: StateFixture, writer: StateWriter, tmp_path: Path) -> None:
    """Opened by a writer, its revocations are counted; by readers they are looked up as before."""
    revoke_all(writer, ID, [chain_of("revoked")[1], *blocks(Random(1), 50)])
    wanted, source = table(writer), writer.source()
    with source.env.begin(write=True) as txn:
        for key in TxnRows(txn, source.tables).keys_after(layout.REVOKED, b"", 100, ID):
            txn.put(key, b"revision", db=source.tables[layout.REVOKED])
        head = replace(source.head(), format=layout.TALLY_FORMAT - 1)
        txn.put(layout.HEAD_KEY, head.encode(), db=source.tables[layout.META])
        txn.drop(source.tables[layout.TALLIES], delete=True)
    writer.close()
    reader = StateReader.open(tmp_path / "state")
    state.verifier = Verifier(reader, audience=AUDIENCE)
    assert reasons(state, range(3)) == {Reason.ALLOWED}
    reader.close()
    with StateWriter.open(tmp_path / "state", clock=state.clock) as again:
        assert table(again) == wanted
        state.verifier = Verifier(again.source(), audience=AUDIENCE)
        assert reasons(state, range(3)) == {Reason.ALLOWED}
        assert reasons(state, ["revoked"]) == {Reason.REVOKED}
        with again.source().rows() as rows:
            assert verify(rows).revoked == 51
        assert again.head().format == layout.FORMAT
