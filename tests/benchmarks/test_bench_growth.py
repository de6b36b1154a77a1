"""Growth rows make and weigh what their names say: tokens, states, floods, ends."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.growth import chains, end_cost, flood, memory, rss_process, state_size
from benchmarks.growth.bulk_tokens import Mint
from benchmarks.growth.growing_state import HOT, ISSUER_SEED, Grown, hot_set, session_id, used_bytes, verifier
from benchmarks.measure import Measurement, Plan
from benchmarks.state_setup import opening
from benchmarks.tokens import ARGUMENTS, RESOURCE, eight_scopes
from benchmarks.workloads import Workload, WrongDecision
from sessauth._fast._check import Chain
from sessauth.crypto.issuer_key import IssuerKey, KeyStatus
from sessauth.model.change import add_key
from sessauth.reasons import Reason
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.issuer import Issuer
from sessauth.verifier.verifier import Verifier

SMALL_PLAN = Plan(rounds=7, blocks=1, singles=10)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """A state folder with the hot sessions."""
    made = Grown(tmp_path_factory.mktemp("grown") / "state")
    made.open_to(HOT)
    return made


def test_tokens_minted_in_bulk_are_the_issuers() -> None:
    """Each has a signature that stands, its own id, its session in turn, and what the issuer puts in it."""
    sessions = [session_id(number) for number in range(3)]
    key = IssuerKey(ISSUER_SEED)
    reference = Chain.parse(next(Mint(ISSUER_SEED, sessions[:1], eight_scopes()).take(1)))

    made = [Chain.parse(token) for token in Mint(ISSUER_SEED, sessions, eight_scopes()).take(7)]

    assert [chain.session_id for chain in made] == [sessions[number % 3] for number in range(7)]
    assert len({chain.token_id for chain in made}) == len({chain.raw for chain in made}) == 7
    assert all(chain.verify(key.public_key) < 0 for chain in made)
    assert {len(chain.raw) for chain in made} == {len(reference.raw)}


def test_a_grown_state_has_the_sessions_and_revocations_that_it_counts(tmp_path: Path) -> None:
    """They are in the log's own tables, the revocations in equal shares of the hot sessions."""
    made = Grown(tmp_path / "state")
    made.open_to(HOT)
    made.open_to(HOT + 50)
    made.revoke_to(HOT)
    made.revoke_to(3 * HOT)

    with StateWriter.open(made.folder) as writer:
        found = writer.list_sessions(limit=2 * HOT)
    by_id = {session.id: session for session in found}
    assert len(found) == made.sessions == HOT + 50
    assert {by_id[session_id(number)].revoked_count for number in range(HOT)} == {3}
    assert by_id[session_id(HOT)].revoked_count == 0 and made.revocations == 3 * HOT
    reader = made.read()
    assert 0 < used_bytes(reader) < made.folder.joinpath("data.mdb").stat().st_size
    reader.close()


def test_the_hot_set_is_allowed_and_in_as_many_sessions(grown: Grown) -> None:
    """A thousand tokens, one for each hot session."""
    hot = hot_set()
    reader = grown.read()
    hot.require_decisions(verifier(reader, 1 << 26))
    reader.close()

    assert len({Chain.parse(call.token).session_id for call in hot.calls}) == len(hot.calls) == HOT


def test_tokens_come_back_from_a_file_of_their_owners(tmp_path: Path) -> None:
    """Tokens are read as they were written, by their owner alone; an existing file is not written over."""
    file = tmp_path / "tokens"
    rss_process.write_tokens(file, [b"one", b"", b"three" * 1000])

    assert list(rss_process.read_tokens(file)) == [b"one", b"", b"three" * 1000]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        rss_process.write_tokens(file, [])


def test_a_fresh_process_weighs_the_chains_that_it_kept(grown: Grown, tmp_path: Path) -> None:
    """It says how many it kept, and their memory is at least their bytes; a denied token fails it."""
    mint = Mint(ISSUER_SEED, [session_id(number) for number in range(HOT)], eight_scopes())
    made = list(mint.take(rss_process.WARM_UP + 800))
    rss_process.write_tokens(tmp_path / "good", made)
    order = {"state_dir": str(grown.folder), "cache_bytes": 1 << 28}

    answer = rss_process.ask({**order, "tokens": str(tmp_path / "good")})

    assert answer["chains"] == 800
    assert answer["anon_in_all"] > answer["anon"] > 800 * len(made[0])
    rss_process.write_tokens(tmp_path / "bad", [made[0][:-1]])
    with pytest.raises(RuntimeError, match="denied"):
        rss_process.ask({**order, "tokens": str(tmp_path / "bad")})


def test_a_flood_in_a_fresh_process_is_bounded_by_its_cache(grown: Grown) -> None:
    """One-off tokens beyond what fits leave no more than the cache's own bound, by its own count."""
    bound = 1 << 20
    order = {"state_dir": str(grown.folder), "cache_bytes": bound, "one_off": 3000, "sessions": HOT}

    answer = rss_process.ask(order)

    assert 0 < answer["chains"] < 3000 and answer["cached_bytes"] <= bound
    assert answer["peak"] >= answer["quarter"] > 0


@pytest.fixture
def small_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floods of a size for tests."""
    monkeypatch.setattr(flood, "HOT_TOKENS", {True: 20})
    monkeypatch.setattr(flood, "RATE_CACHE_BYTES", {True: 1 << 21})
    monkeypatch.setattr(flood, "RATE_ONE_OFF", {True: 2700})
    monkeypatch.setattr(flood, "ONE_OFF", {True: 1500})


@pytest.mark.usefixtures("small_flood")
def test_the_flood_rows_say_what_was_a_hit(tmp_path: Path) -> None:
    """A share of the hot set's checks between 0 and 1, for each origin of the flood, and the memory."""
    rows = {row.name: row for row in flood.measurements(tmp_path, quick=True, only="flood/")}

    assert list(rows) == [*flood.RATES, "flood/memory"]
    for name in flood.RATES:
        assert all(0 <= share <= 1 for share in rows[name].rounds) and len(rows[name].rounds) == flood.PIECES
        assert rows[name].extra["one-off tokens"] == 2700
    assert rows["flood/one-other-session"].extra["hit rate in all"] == 1.0
    assert rows["flood/memory"].floor == flood.MEMORY_FLOOR


@pytest.mark.usefixtures("small_flood")
def test_a_cache_without_room_for_the_hot_set_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hit rate of a set that never fitted would say nothing."""
    monkeypatch.setattr(flood, "RATE_CACHE_BYTES", {True: 1 << 12})

    with pytest.raises(RuntimeError, match="does not fit"):
        list(flood.measurements(tmp_path, quick=True, only="flood/other-sessions"))


@pytest.fixture
def one_family(tmp_path: Path) -> Iterator[tuple[Verifier, end_cost.Family, StateWriter]]:
    """A verifier, a live session's open root, and the writer of their state."""
    key = IssuerKey(ISSUER_SEED)
    with StateWriter.open(tmp_path / "state", create=True) as writer:
        for change in (add_key("key", key.public_key, status=KeyStatus.ACTIVE), opening(session_id(0))):
            writer.submit(change).result().raise_if_rejected()
        checked = Verifier(writer.source(), audience="gateway-1")
        yield checked, end_cost.family(Issuer(key), session_id(0)), writer


def test_children_made_in_bulk_are_allowed_until_their_session_ends(
    one_family: tuple[Verifier, end_cost.Family, StateWriter],
) -> None:
    """Each is a token of its own; one write later every one of them is denied."""
    checked, made, writer = one_family
    children = list(made.children(30))

    assert len(set(children)) == 30
    assert all(checked.check(child, "read", RESOURCE, ARGUMENTS) for child in children)
    assert end_cost._end(writer, made.session_id) > 0
    decisions = [checked.check(child, "read", RESOURCE, ARGUMENTS) for child in children]
    assert {decision.reason for decision in decisions} == {Reason.SESSION_ENDED}


def test_ends_are_measured_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends with children and ends without are equally frequent, and the row has the number of children."""
    monkeypatch.setattr(end_cost, "CHILDREN", {True: 20})
    monkeypatch.setattr(end_cost, "SAMPLE", 10)

    without, with_children = end_cost.measurements(tmp_path, quick=True, only="end/")

    assert (without.name, with_children.floor) == ("end/without-children", "end/without-children")
    assert with_children.floor_rounds == without.rounds and len(with_children.rounds) == end_cost.ROUNDS
    assert with_children.extra == {"children": 20, "presented before and after": 10}


def _names(rows: Iterator[Measurement]) -> dict[str, Measurement]:
    return {row.name: row for row in rows}


def test_states_grow_and_are_measured_against_the_smallest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm and cold checks of one hot set, among more sessions and more revocations, with the weights."""
    monkeypatch.setattr(state_size, "SIZES", {True: (2 * HOT,)})
    monkeypatch.setattr(state_size, "PLANS", {True: SMALL_PLAN})

    rows = _names(state_size.measurements(tmp_path, quick=True, only="growth/"))

    assert list(rows) == [
        f"growth/{axis}-2000-{kind}" for axis in ("sessions", "revocations") for kind in ("warm", "cold")
    ]
    for name, row in rows.items():
        assert row.floor == state_size.ROWS[name.replace("2000", "10000")] and len(row.rounds) == 7
        assert {"file MB", "own MB", "mapped MB", "us to write each"} == row.extra.keys()
    assert list(state_size.measurements(tmp_path, quick=True, only="growth/chains")) == []


def test_caches_grow_and_a_size_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chains that the name says are in the cache; what this machine can't hold is not measured."""
    monkeypatch.setattr(chains, "SIZES", {True: (2 * HOT, 10**9)})
    monkeypatch.setattr(chains, "PLANS", {True: SMALL_PLAN})

    rows = _names(chains.measurements(tmp_path, quick=True, only="growth/chains"))

    extra = rows["growth/chains-2000-warm"].extra
    assert extra["chains"] == 2 * HOT
    assert extra["MB by the cache's own count"] * 1e6 > 2 * HOT * 1000
    assert "own MB more" in extra
    assert len(rows["growth/chains-2000-cold"].rounds) == 7
    for kind in ("warm", "cold"):
        assert "GB are free" in rows[f"growth/chains-{10**9}-{kind}"].missing
    assert chains.available_bytes() > 0


def test_a_cache_that_denies_or_drops_is_no_row(grown: Grown) -> None:
    """Filling it stops at a denial, and at a chain that was not kept."""
    reader = grown.read()
    try:
        cache = chains.Cache(reader, Workload("none", ()), salt=9)
        cache.fill_to(5)
        assert cache.verifier.cached_chains == 5
        cache.verifier = verifier(reader, 1 << 12)
        with pytest.raises(RuntimeError, match="chains"):
            cache.fill_to(50)
        cache._mint = Mint(bytes(32), [session_id(0)], eight_scopes())
        with pytest.raises(WrongDecision):
            cache.fill_to(60)
    finally:
        reader.close()


def test_a_chains_weight_is_held_against_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowance grows with the chain: three times its bytes and 512."""
    monkeypatch.setattr(memory, "CHAINS", {2: 500})

    (row,) = memory.measurements(tmp_path, quick=True, only="memory/")

    size = row.extra["chain bytes"]
    assert isinstance(size, float) and row.floor_rounds == (3 * size + 512,) * len(row.rounds)
    assert row.unit == "bytes" and min(row.rounds) > size
