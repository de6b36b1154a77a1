"""Sessions in observe mode: their rows, the narrowing that enforces, and the formats that they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import narrow_session, new_incarnation
from sessauth.model.host import OLDEST_FORMAT, SECOND_FORMAT
from sessauth.model.session import Session
from sessauth.scopes.scope import Scope
from sessauth.state import layout
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.group import change_format
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening

ID = b"s" * 16


def narrowing(change_id: str, *scopes: str, enforce: bool = False) -> object:
    """Return the change of a narrowing."""
    return narrow_session(change_id, ID, [Scope.parse(each).to_record() for each in scopes], enforce=enforce)


def session(writer: StateWriter) -> Session:
    """Return the session."""
    found = writer.get_session(ID)
    assert found is not None
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one session in observe mode."""
    with StateWriter.open(tmp_path, create=True, map_size=8 << 20, clock=FixedClock(NOW)) as writer:
        assert writer.head().min_reader_format == layout.MIN_READER_FORMAT
        assert writer.submit(opening("o", ID, observe=True)).result().applied
    return tmp_path


@pytest.fixture
def writer(folder: Path) -> StateWriter:
    """The writer of that folder."""
    opened = StateWriter.open(folder, map_size=8 << 20, clock=FixedClock(NOW))
    yield opened
    opened.close()


def test_a_narrowing_is_observed_too_unless_it_enforces(writer: StateWriter) -> None:
    """A layer more, in observe mode; then the end of the mode, with its time, and a new epoch each."""
    assert writer.submit(narrowing("n", "read:files/a")).result().applied
    assert (session(writer).observe, session(writer).epoch) == (True, 2)
    assert writer.submit(narrowing("e", "read:files/a", enforce=True)).result().applied
    enforced = session(writer)
    assert (enforced.observe, enforced.enforced_at_ms, enforced.epoch) == (False, NOW, 3)


def test_the_mode_ends_without_scopes_and_once(writer: StateWriter) -> None:
    """The ceiling stays; a session that is enforced has no mode to end, and nothing brings it back."""
    before = session(writer).ceilings
    assert writer.submit(narrowing("e", enforce=True)).result().applied
    assert (session(writer).ceilings, session(writer).observe) == (before, False)
    again = writer.submit(narrowing("again", enforce=True)).result()
    assert again.rejection == "WRONG_STATUS" and "not in observe mode" in again.detail
    assert writer.submit(narrowing("n", "read:files/a", enforce=True)).result().applied
    assert session(writer).enforced_at_ms == NOW
    assert writer.submit(narrowing("none")).result().rejection == "INVALID"


def test_an_earlier_reader_refuses_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so by the format, before it reads a row. A later incarnation does not take the demand back."""
    StateReader.open(folder).close()
    with StateWriter.open(folder, map_size=8 << 20, clock=FixedClock(NOW)) as writer:
        assert writer.submit(new_incarnation("i", b"i" * 16, NOW)).result().applied
        assert writer.head().min_reader_format == layout.OBSERVE_FORMAT
    monkeypatch.setattr(layout, "FORMAT", layout.OBSERVE_FORMAT - 1)
    with pytest.raises(StateUnusable, match="upgrade this program"):
        StateReader.open(folder)


def test_a_cluster_writes_it_once_each_host_reads_it() -> None:
    """An opening in observe mode, and a narrowing that enforces, are of the second format of the log."""
    assert change_format(opening("o", ID)) == change_format(narrowing("n", "read:files/a")) == OLDEST_FORMAT
    assert change_format(opening("o", ID, observe=True)) == SECOND_FORMAT
    assert change_format(narrowing("e", enforce=True)) == SECOND_FORMAT
