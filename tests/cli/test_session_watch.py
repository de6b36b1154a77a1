"""``sessauth session watch`` stays, says what happens, and goes on where it is told to."""

from __future__ import annotations

import json
import subprocess

import pytest

from sessauth.cli.commands.session import to_json, to_line
from sessauth.client import EventKind, SessionEvent
from sessauth.model.session import EndCause
from tests.support.service import LONGER_MS

from .conftest import COMMAND, Service


def _open(service: Service, *more: str) -> str:
    opened = service("session", "open", "--subject", "agent", "--ceiling", "read:files/**", "--json", *more)
    assert opened.code == 0, opened.err
    return str(opened.json["id"])


def _lived(service: Service) -> tuple[str, int]:
    """Return a session that was opened and ended, and the revision before it."""
    before = int(service("session", "get", _open(service), "--json").json["revision"])
    session = _open(service)
    assert service("session", "end", session, "--reason", "done").code == 0
    return session, before


def test_what_happened_is_told_from_a_revision_on(service: Service) -> None:
    """One JSON document a line, and as many as were asked for."""
    session, before = _lived(service)
    ran = service("session", "watch", "--after", before, "--session", session, "--count", "2", "--json")
    told = [json.loads(line) for line in ran.out.splitlines()]

    assert (ran.code, ran.err) == (0, "")
    assert [(each["kind"], each["session_id"], each["revision"]) for each in told] == [
        ("OPENED", session, before + 1),
        ("ENDED", session, before + 2),
    ]
    assert (told[1]["reason"], told[1]["cause"], told[1]["actor"]) == ("done", "ASKED", "operator")


def test_lines_for_people_name_what_matters(service: Service) -> None:
    """Time, kind, session, and why; filters by name, in small letters."""
    session, before = _lived(service)
    ran = service(
        *("session", "watch", "--after", before, "--kinds", "ended,lapsed", "--subject", "agent"),
        *("--owner", "operator", "--count", "1"),
    )

    assert ran.code == 0
    assert f'ENDED {session} revision={before + 2} cause=ASKED by="operator" reason="done"' in ran.out


def test_it_stays_until_its_time_is_over(service: Service) -> None:
    """Heartbeats say that nothing was kept back."""
    for ms in LONGER_MS:
        ran = service("session", "watch", "--for", f"{ms}ms", "--heartbeats", "--purpose", "none", "--json")
        told = [json.loads(line) for line in ran.out.splitlines()]
        assert ran.code == 0
        if len(told) == 2:
            break

    assert [each["kind"] for each in told] == ["SYNCED", "SYNCED"]
    assert len(told[0]["incarnation"]) == 32


def test_it_says_things_as_they_happen(service: Service) -> None:
    """Each line is there at once, for whoever reads the pipe, children too."""
    parent = _open(service)
    command = [*COMMAND, "--home", str(service.home), "session", "watch", "--session", parent, "--children"]
    with subprocess.Popen(
        [*command, "--heartbeats", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["kind"] == "SYNCED"
        child = _open(service, "--parent", parent)
        kinds = {}
        while not kinds:
            event = json.loads(watching.stdout.readline())
            kinds = {event["kind"]: event["session_id"]} if event["kind"] != "SYNCED" else {}
        watching.terminate()

    assert kinds == {"OPENED": child}


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--kinds", "gone"), 2, "kinds"),
        (("--children",), 2, "--children"),
        (("--session", "ab"), 2, "hex"),
        (("--session", "ab" * 16), 3, "no such session"),
        (("--after", str(1 << 50)), 2, "--after"),
    ],
)
def test_what_can_not_be_watched_is_said(
    service: Service, arguments: tuple[str, ...], code: int, named: str
) -> None:
    """The exit code tells the party at fault."""
    ran = service("session", "watch", *arguments)

    assert ran.code == code
    assert named in ran.err


def test_texts_of_others_can_not_mislead() -> None:
    """A session's own texts stand in quotes, with escapes for invisible characters."""
    event = SessionEvent(
        EventKind.LAPSED,
        9,
        0,
        b"s" * 16,
        subject='x" \x1b[2J',
        cause=EndCause.EXPIRED,
        inherited_by=(b"c" * 16,),
        claimed=True,
        count=4,
    )

    assert to_line(event) == (
        f"LAPSED {'73' * 16} revision=9 cause=EXPIRED "
        f'subject="x\\" \\u001b[2J" ends_too={"63" * 16} times=4 verified=no'
    )
    assert to_json(event)["inherited_by"] == ["63" * 16]
    assert "reason" not in to_json(event)
