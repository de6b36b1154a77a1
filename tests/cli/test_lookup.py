"""Ids by their first digits: used where one is meant, refused with what they could mean where several are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from sessauth.cli import context as lookup
from sessauth.cli import params
from sessauth.cli.main import cli
from sessauth.client import SessionPage
from sessauth.client._requests.fields import session_from_message
from sessauth.errors import NotFound, PermissionDenied
from sessauth.v1 import record_pb2
from sessauth.v1 import session_service_pb2 as pb

from .conftest import Ran, Run, Service

SUBJECT = "agent\x1b[2J\nsessauth: all is well"


class Listing:
    """A client that lists what it was made with, whatever was asked for."""

    def __init__(self, *session_ids: str) -> None:
        self.requests: list[dict[str, Any]] = []
        self.sessions = tuple(
            session_from_message(
                pb.Session(id=bytes.fromhex(each), subject=SUBJECT, status=record_pb2.SESSION_STATUS_ACTIVE)
            )
            for each in session_ids
        )

    def list_sessions(self, **asked: Any) -> SessionPage:
        """Return a page of them."""
        self.requests.append(asked)
        return SessionPage(self.sessions[: asked["page_size"]])

    def end(self, *_: Any, **__: Any) -> None:
        """Fail: nothing is ended here."""
        raise AssertionError


def some(digits: str, count: int) -> list[str]:
    """Ids that begin with these digits."""
    return [digits.ljust(30, "0") + f"{number:02x}" for number in range(count)]


def found(client: Any, text: str) -> bytes:
    """The session that a text means."""
    return lookup.session(client, params.session_id(text))


def test_one_session_is_found_by_its_first_digits() -> None:
    """The server is asked for those that begin so, and for no more than can be shown."""
    client = Listing(*some("5f0c", 1))

    for text in ("5f0c", "5F0C", "5f0c…", "5f0c...", "5f0c0"):
        assert found(client, text).hex() == some("5f0c", 1)[0]
    assert client.requests[0] == {"id_prefix": "5f0c", "page_size": lookup.MAX_SHOWN + 1}


def test_a_whole_id_asks_nobody() -> None:
    """32 digits are the id, whether or not there is such a session; none at all are none."""
    client = Listing()

    assert found(client, "5f" * 16) == bytes.fromhex("5f" * 16)
    assert lookup.session(client, b"") == b""  # type: ignore[arg-type]
    assert client.requests == []


def test_several_are_listed_and_none_is_used() -> None:
    """At most eight, one a line, with what tells them apart; more are said to be there."""
    with pytest.raises(lookup.AmbiguousId, match="5f0c begins the ids of several sessions") as few:
        found(Listing(*some("5f0c", 2)), "5f0c")
    with pytest.raises(lookup.AmbiguousId) as many:
        found(Listing(*some("5f0c", 60)), "5f0c")

    assert [line.split()[0] for line in few.value.candidates] == some("5f0c", 2)
    assert all("ACTIVE" in line for line in few.value.candidates)
    assert len(many.value.candidates) == lookup.MAX_SHOWN + 1
    assert many.value.candidates[-1] == "and more"


def test_a_server_that_does_not_know_prefixes_is_not_believed() -> None:
    """Ids with another prefix don't count, whatever a server lists."""
    assert found(Listing(*some("aaaa", 3), *some("5f0c", 1)), "5f0c").hex() == some("5f0c", 1)[0]
    with pytest.raises(NotFound, match="no session has an id that begins with 5f0c"):
        found(Listing(*some("aaaa", 3)), "5f0c")


def test_who_may_not_list_is_told_to_give_the_whole_id() -> None:
    """A credential that may not list sessions can still name one in full."""

    class Refusing(Listing):
        def list_sessions(self, **asked: Any) -> SessionPage:
            raise PermissionDenied("the role does not reach that far", "ROLE")

    with pytest.raises(PermissionDenied, match="whole id"):
        found(Refusing(), "5f0c")


@pytest.mark.parametrize("text", ["5f0", "", "x5f0c", "5f0g", "5" * 33, "..."])
def test_too_little_is_no_prefix(text: str) -> None:
    """Fewer than four digits, more than there are, and what is no digit."""
    with pytest.raises(click.BadParameter, match="nor the first 4 or more"):
        params.session_id(text)


def test_offline_commands_take_whole_ids(run: Run, issuer_key: Path) -> None:
    """A prefix is refused by commands without a server, and the refusal says what to give."""
    ran = run(
        *("token", "mint", "5f0c", "--scope", "read:x", "--audience", "g", "--issuer-key", issuer_key),
        *("--ttl", "1m"),
    )
    assert ran.code == 2
    assert "SESSION_ID: give all digits" in ran.err


def answered(service: Service, *command: object) -> Ran:
    """Return a command's answer; it must exit with 0."""
    ran = service(*command)
    assert ran.code == 0, ran.err
    return ran


def test_commands_take_prefixes(service: Service, tmp_path: Path) -> None:
    """Every command on a session finds it by its first digits, by a real server."""
    terms = ("--subject", "agent", "--ceiling", "read:**", "--lease", "1h")
    whole = answered(service, "session", "open", *terms, "--json").json["id"]
    short = whole[:10]
    token = tmp_path / "t"

    child = answered(service, "session", "open", *terms, "--parent", short, "--json").json
    assert child["parent_id"] == whole
    assert answered(service, "session", "get", short, "--json").json["id"] == whole
    listed = answered(service, "session", "list", "--parent", short, "--json").json["sessions"]
    assert [each["id"] for each in listed] == [child["id"]]
    assert answered(service, "session", "keep-alive", short, "--json").json["session_id"] == whole
    answered(service, "session", "narrow", short, "--ceiling", "read:a/**")
    answered(service, "session", "facts", short, "--fact", "case=1")
    answered(service, "session", "suspend", short)
    answered(service, "session", "resume", short)
    answered(service, "session", "census", short)
    answered(service, "session", "report", short)
    answered(service, "token", "mint", short, "--scope", "read:a/b", "--audience", "g", "--out", token)
    checked = ("check", token, "read", "a/b", "--audience", "g", "--session", short)
    assert answered(service, *checked).out.startswith("ALLOWED")
    answered(service, "allowed", token, "read:a/b", "--audience", "g", "--session", short)
    assert answered(service, "approval", "list", "--session", short, "--json").json["approvals"] == []
    block = answered(service, "token", "inspect", token, "--json").json["blocks"][0]["block_id"]
    answered(service, "token", "revoke", "--session", short, "--block-id", block)
    assert answered(service, "session", "end", short, "--json").json["id"] == whole
    answered(service, "session", "receipt", short)
    assert service("session", "get", "0000").code == 3


def test_keys_take_prefixes(service: Service) -> None:
    """An issuer key is found among those that the server lists."""
    added = answered(service, "keys", "add", "--json").json["id"]

    assert answered(service, "keys", "activate", added[:12], "--json").json["id"] == added
    assert answered(service, "keys", "retire", added[:12], "--json").json["id"] == added
    assert service("keys", "retire", "00000000").code == 3


def test_approvals_take_prefixes(service: Service, tmp_path: Path) -> None:
    """An approval is found among all of its session's, whatever became of it."""
    key = answered(service, "approver-key", "new", tmp_path / "ann.pem", "--json").json["public_key"]
    scope = f'read:** needs approval(1, "{key}")'
    whole = answered(service, "session", "open", "--subject", "a", "--ceiling", "read:**", "--json").json[
        "id"
    ]
    for resource, name in (("a/b", "t"), ("a/c", "u")):
        token = tmp_path / name
        answered(
            service,
            "token",
            "mint",
            whole,
            "--scope",
            scope,
            "--audience",
            "g",
            "--out",
            token,
            "--ttl",
            "1m",
        )
        assert service("check", token, "read", resource, "--audience", "g").code == 1
    asked = answered(service, "approval", "list", "--session", whole, "--json").json["approvals"]
    assert len(asked) == 2
    first, second = (each["id"] for each in asked)

    assert answered(service, "approval", "show", whole[:10], first[:10], "--json").json["id"] == first
    answered(service, "approval", "deny", whole[:10], first[:10])
    denied = answered(service, "approval", "show", whole[:10], first[:10], "--json").json
    assert (denied["id"], denied["status"]) == (first, "DENIED")
    assert answered(service, "approval", "show", whole, second[:10], "--json").json["status"] == "PENDING"
    unknown = service("approval", "show", whole[:10], "0000")
    assert (unknown.code, "no approval" in unknown.err) == (3, True)


def test_candidates_are_printed_safely(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that others chose can't act on a terminal, nor look like a line of ours."""
    client = Listing(*some("5f0c", 2))

    class Context(Listing):
        def __enter__(self) -> Listing:
            return client

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("sessauth.cli.context.Settings.client", lambda *_: Context())
    ran, as_json = run("session", "end", "5f0c"), run("session", "end", "5f0c", "--json")

    assert (ran.code, as_json.code) == (2, 2)
    assert len(ran.err.splitlines()) == 3
    assert "\x1b" not in ran.err
    assert all(each in ran.err for each in some("5f0c", 2))
    error = json.loads(as_json.err)["error"]
    assert (error["kind"], len(error["candidates"])) == ("AmbiguousId", 2)


def test_every_command_says_which_ids_it_takes() -> None:
    """Each option or argument for a session is one that takes prefixes, or one that asks nobody."""

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        for parameter in command.params:
            if parameter.name in ("session_id", "session_ids", "session", "parent"):
                kind = params.whole_session if path[-1] == "verify-closed" else params.session_id
                assert getattr(parameter.type, "func", None) is kind, path
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk(below, (*path, name))

    walk(cli, ("sessauth",))
