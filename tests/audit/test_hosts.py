"""Logs of several hosts: which folders are one, and one session's story over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.read.story import CLOCK_MS, SessionStory, audit_hosts, read_story
from sessauth.audit.replay import replay
from sessauth.audit.replay.report import ReplayFault
from sessauth.audit.write.stream import AuditStream
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import Change, ChangeKind, end_session, open_session
from tests.support.audit_log import SESSION, START_MS, change, decision, write_small

PARENT, BOUND_MS = b"p" * 16, 3_000
OPEN_MS, END_MS = 1, 10_000


@dataclass
class Host:
    """One host's log, as it is written."""

    folder: Path
    stream: AuditStream

    @classmethod
    def begin(cls, home: Path, name: str) -> Host:
        """Begin a stream in the audit folder of a home."""
        stream = AuditStream.open_new(
            home / "audit",
            process="control",
            audience="mcp",
            cluster_id=b"c" * 16,
            incarnation=b"i" * 16,
            clock=FixedClock(START_MS),
            host=name,
        )
        return cls(home / "audit", stream)

    def decide(self, at_ms: int, revision: int, **changed: Any) -> None:
        """Record an allowed call at a time of this host's clock."""
        self.stream.append(layout.body("decision", decision(at_ms, revision=revision, **changed)))

    def note(self, at_ms: int, made: Change, revision: int, seq: int, **changed: Any) -> None:
        """Record a change."""
        record = {**change(at_ms, made, revision), "seq": seq, **changed}
        self.stream.append(layout.body("change", record))


def opening(session_id: bytes = SESSION, **terms: Any) -> Change:
    """Return the opening of a session."""
    return open_session(f"o{session_id.hex()}", session_id, [], ttl_ms=60_000, **terms)


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Host, Host]:
    """Two hosts that both have the opening and the end of the session."""
    both = Host.begin(tmp_path / "one", "server/one"), Host.begin(tmp_path / "two", "edge-1")
    for host in both:
        host.note(OPEN_MS, opening(), 7, 1)
        host.note(END_MS, end_session("e", SESSION), 8, 2)
    return both


def story_of(folder: Path, session_id: bytes = SESSION) -> SessionStory:
    """Read the story of the hosts in a folder."""
    return read_story(audit_hosts([folder]), session_id, BOUND_MS)


def test_a_folder_of_homes_has_their_hosts(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    """Their names are those of their records; a folder without a stream counts too."""
    (tmp_path / "one" / "state").mkdir()
    (tmp_path / "gone").mkdir()
    (tmp_path / ".hidden").mkdir()
    found = audit_hosts([tmp_path])
    assert [(host.name, host.folder.parent.name) for host in found] == [
        ("edge-1", "two"),
        ("gone", tmp_path.name),
        ("server/one", "one"),
    ]
    assert [host.state_dir is not None for host in found] == [False, False, True]
    assert len(audit_hosts([hosts[0].folder, tmp_path / "one", tmp_path])) == 3


def test_equal_names_get_their_paths(tmp_path: Path) -> None:
    """Two folders of one name get their paths, and one without a name that of its folder."""
    for name in ("a", "b"):
        Host.begin(tmp_path / name, "edge-1")
    write_small(tmp_path / "c")
    assert [host.name for host in audit_hosts([tmp_path])] == [
        "c",
        f"edge-1 ({tmp_path / 'a' / 'audit'})",
        f"edge-1 ({tmp_path / 'b' / 'audit'})",
    ]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """It is not an empty one."""
    with pytest.raises(StateUnusable, match="nowhere"):
        audit_hosts([tmp_path / "nowhere"])


def test_a_story_has_each_change_once_and_all_calls_by_time(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    """Whichever host recorded them."""
    one, two = hosts
    two.decide(3_000, 7)
    one.decide(2_000, 7)
    one.decide(END_MS + 5, 8, allowed=False, reason="SESSION_ENDED")
    story = story_of(tmp_path)
    assert [(entry.host, entry.at_ms - START_MS) for entry in story.entries] == [
        ("edge-1", OPEN_MS),
        ("server/one", 2_000),
        ("edge-1", 3_000),
        ("edge-1", END_MS),
        ("server/one", END_MS + 5),
    ]
    assert story.end is not None
    assert (story.end.seq, story.end.revision, story.survived, story.within) == (2, 8, [], 0)
    assert {part.host.name: (part.allowed, part.denied) for part in story.hosts} == {
        "edge-1": (1, 0),
        "server/one": (1, 1),
    }


@pytest.mark.parametrize(
    ("at_ms", "revision", "survived", "within"),
    [
        (END_MS, 7, 0, 0),
        (END_MS + 1, 7, 0, 1),
        (END_MS + BOUND_MS + CLOCK_MS, 7, 0, 1),
        (END_MS + BOUND_MS + CLOCK_MS + 1, 7, 1, 0),
        (END_MS - 1, 8, 1, 0),
    ],
)
def test_an_allow_too_late_or_by_the_ended_state_survived(
    tmp_path: Path, hosts: tuple[Host, Host], at_ms: int, revision: int, survived: int, within: int
) -> None:
    """Within the bound of staleness it is what was promised."""
    hosts[1].decide(at_ms, revision)
    story = story_of(tmp_path)
    assert (len(story.survived), story.within) == (survived, within)


def test_clocks_that_differ_are_shown(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    """A decision by a change before it was made; and one without it long after."""
    one, two = hosts
    one.decide(END_MS - 400, 8, allowed=False)
    two.decide(END_MS + BOUND_MS + 700, 7)
    clocks = {part.host.name: (part.behind_ms, part.ahead_ms) for part in story_of(tmp_path).hosts}
    assert clocks == {"server/one": (400, 0), "edge-1": (0, 700)}


def test_a_session_ends_with_its_parent_and_with_its_incarnation(tmp_path: Path) -> None:
    """The first change that ends it counts; one that was rejected ends nothing."""
    host = Host.begin(tmp_path / "one", "server/one")
    host.note(1, opening(PARENT), 1, 1)
    host.note(2, opening(parent_id=PARENT), 2, 2)
    host.note(3, end_session("r", SESSION), 2, 3, outcome="NOT_FOUND")
    assert story_of(tmp_path).end is None
    host.note(4, end_session("e", PARENT), 3, 4)
    host.note(5, Change("n", ChangeKind.NEW_INCARNATION, {"incarnation": b"j" * 16}), 4, 5)
    end = story_of(tmp_path).end
    assert end is not None
    assert (end.seq, end.session) == (4, PARENT.hex())
    host.note(6, opening(b"x" * 16), 5, 6)
    assert story_of(tmp_path, b"x" * 16).end is None


def test_hosts_that_contradict_each_other_are_found_by_a_replay(
    tmp_path: Path, hosts: tuple[Host, Host]
) -> None:
    """Each log by itself may verify: only together do two changes have one number."""
    folders = [host.folder for host in hosts]
    assert all(each.kind is not ReplayFault.TWO_CHANGES for each in replay(*folders).findings)
    hosts[1].note(END_MS, end_session("other", PARENT), 9, 2)
    finding = replay(*folders).findings[0]
    assert finding.kind is ReplayFault.TWO_CHANGES
    assert Path(finding.file).parent == hosts[1].folder
