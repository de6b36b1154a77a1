"""Approvals on the command line: read, signed after a question, handed in or to a file, denied."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessauth.crypto.keys import IssuerKey
from sessauth.model.approval import ApprovalRecord, ApprovalStatus, SignedApproval, check_statement, terms_of
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.approval_requests import ask
from tests.support.approvals import KEYS, SPENDING, approver, record, request_digest, statement
from tests.support.service import Service, running

from .conftest import COMMAND, Ran, Run, invoke


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    """A server in this process, whose log asks for approvals where a test says so."""
    with running() as started:
        yield started


@pytest.fixture
def command(server: Service) -> Run:
    """Run a command against that server, as its operator."""
    return lambda *args, **given: invoke("--home", server.made.home, *args, **given)


@pytest.fixture
def session(server: Service) -> sessions.Session:
    """A live session."""
    request = sessions.OpenSessionRequest(subject="agent-7", purpose="ticket 12", ceiling=["*:**"])
    return server.operator.call("SessionService/OpenSession", request).session


@pytest.fixture
def pending(server: Service, session: sessions.Session) -> ApprovalRecord:
    """An approval that waits for two of three keys."""
    return ask(server, session, **SPENDING)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Key files of the approvers, and of one whom nobody asks."""
    for name in (*KEYS, "dan"):
        approver(name).save(tmp_path / name)
    return {name: tmp_path / name for name in (*KEYS, "dan")}


def ids(pending: ApprovalRecord) -> tuple[str, str]:
    """The two arguments that name an approval."""
    return pending.session_id.hex(), pending.id.hex()


def status(server: Service, pending: ApprovalRecord) -> tuple[ApprovalStatus, int]:
    """Return the approval's status in the log, and the number of signatures."""
    assert server.control is not None
    found = server.control.writer.approval(pending.session_id, pending.id)
    assert found is not None
    return found.status, len(found.statements)


def test_a_key_is_made_in_a_file_of_its_owner(run: Run, tmp_path: Path) -> None:
    """Mode 0600; its public key is printed as scope text takes it, the private one nowhere."""
    path = tmp_path / "ann.pem"
    made = run("approver-key", "new", path)
    shown = run("approver-key", "show", path, "--json")
    again = run("approver-key", "new", path)

    assert made.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f'needs approval(1, "{run("approver-key", "show", path, "--quiet").out.strip()}")' in made.out
    assert again.code == 5
    assert path.read_text().splitlines()[1] not in made.out + made.err + shown.out + again.err


def test_what_waits_is_listed(command: Run, pending: ApprovalRecord) -> None:
    """Both ids are whole, to be copied; filters are session, key and status; JSON has the same."""
    session_id, approval_id = ids(pending)
    shown = command("approval", "list", "--session", session_id)
    by_key = ("approval", "list", "--session", session_id, "--public-key")
    mine = command(*by_key, approver("ann").text, "--json")
    others = command(*by_key, approver("dan").text)
    used = command("approval", "list", "--session", session_id, "--status", "used")

    for part in (session_id, approval_id, "0/2", "ticket 12", "10 of 10 left  deploy:prod/**\n"):
        assert part in shown.out
    assert [each["id"] for each in mine.json["approvals"]] == [approval_id]
    assert others.out == used.out == "none\n"


def test_a_page_says_how_to_go_on(command: Run, server: Service, session: sessions.Session) -> None:
    """The second page holds what the first did not."""
    wanted = sorted(ask(server, session).id.hex() for _ in range(2))
    args = ("approval", "list", "--session", session.id.hex(), "--limit", "1", "--json")
    first = command(*args).json
    second = command(*args, "--page", first["next_page_token"]).json

    assert [page["approvals"][0]["id"] for page in (first, second)] == wanted
    assert "--page" in command(*args[:-1]).out


def test_show_prints_all_that_is_signed(command: Run, pending: ApprovalRecord) -> None:
    """The session's subject and purpose are part of it."""
    ran = command("approval", "show", *ids(pending))

    assert ran.code == 0
    for part in ('"deploy"', '"prod/api"', '"agent-7"', '"ticket 12"', pending.request_digest.hex()):
        assert part in ran.out


def test_grant_needs_somebody_who_reads(
    command: Run, server: Service, pending: ApprovalRecord, keys: dict[str, Path]
) -> None:
    """Without a terminal nothing is signed without --yes; the text to be signed is shown either way."""
    refused = command("approval", "grant", *ids(pending), "--key", keys["ann"])
    assert (refused.code, status(server, pending)) == (2, (ApprovalStatus.PENDING, 0))
    assert "--yes" in refused.err

    granted = command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes")
    assert (granted.code, status(server, pending)) == (0, (ApprovalStatus.PENDING, 1))
    assert '"prod/api"' in granted.out
    assert "signed 1 of 2" in granted.out

    second = command("approval", "grant", *ids(pending), "--key", keys["bob"], "--yes", "--json")
    assert second.json["status"] == "GRANTED"
    assert '"prod/api"' in second.json["shown"]


def test_a_key_that_is_not_asked_signs_nothing(
    command: Run, server: Service, pending: ApprovalRecord, keys: dict[str, Path]
) -> None:
    """Nor one that signed already; both are told here, before anything is sent."""
    foreign = command("approval", "grant", *ids(pending), "--key", keys["dan"], "--yes")
    as_json = command("approval", "grant", *ids(pending), "--key", keys["dan"], "--yes", "--json")
    command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes")
    twice = command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes")

    assert (foreign.code, twice.code) == (2, 2)
    assert ("does not name" in foreign.err, "signed already" in twice.err) == (True, True)
    assert json.loads(as_json.err)["error"]["word"] == "UNKNOWN_KEY"
    assert status(server, pending) == (ApprovalStatus.PENDING, 1)


def test_grant_to_a_file(
    command: Run, server: Service, pending: ApprovalRecord, keys: dict[str, Path], tmp_path: Path
) -> None:
    """The server hears nothing; the file is new, its owner's alone, and holds what counts."""
    out = tmp_path / "signed"
    ran = command(
        "approval", "grant", *ids(pending), "--key", keys["ann"], "--yes", "--ttl", "5m", "--out", out
    )
    again = command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes", "--out", out)

    assert (ran.code, again.code) == (0, 2)
    assert status(server, pending) == (ApprovalStatus.PENDING, 0)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    signed = SignedApproval.from_text(out.read_text().strip())
    stated = check_statement(signed, terms_of(pending), pending.requested_at_ms, approval_id=pending.id)
    assert 0 < stated.expires_at_ms - pending.requested_at_ms <= 5 * 60_000 + 60_000
    assert out.read_text().strip() not in ran.out


def test_deny_says_who_and_why(command: Run, server: Service, pending: ApprovalRecord) -> None:
    """It is written down, and final."""
    ran = command("approval", "deny", *ids(pending), "--reason", "not on friday")
    again = command("approval", "deny", *ids(pending))

    assert (ran.code, again.code) == (0, 3)
    assert 'denied by  "operator": "not on friday"' in ran.out
    assert status(server, pending)[0] is ApprovalStatus.DENIED


def test_hostile_texts_reach_no_terminal(
    command: Run, server: Service, session: sessions.Session, keys: dict[str, Path]
) -> None:
    """Neither list nor show nor grant prints a character that moves or hides what stands beside it."""
    arguments = b'{"to": "x\\u202e\\n\\u001b[31m"}'
    pending = ask(
        server,
        session,
        resource="prod/ipa\u202e",
        arguments=arguments,
        labels=("evil\u2066",),
        request_digest=request_digest("deploy", "prod/ipa\u202e", arguments),
    )
    for args in (
        ("approval", "list"),
        ("approval", "show", *ids(pending)),
        ("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes"),
        ("approval", "deny", *ids(pending), "--reason", "no"),
    ):
        ran = command(*args)
        assert ran.code == 0, ran.err
        assert all(char.isprintable() for char in ran.out.replace("\n", ""))


@pytest.mark.parametrize(
    "args",
    [
        ("approval", "show", "00" * 17, "00" * 16),
        ("approval", "show", "00" * 16, "zz"),
        ("approval", "grant", "00" * 16, "00" * 16),
        ("approval", "list", "--public-key", "short"),
        ("permit", "release", "00" * 16),
    ],
)
def test_an_argument_that_can_not_be_is_a_usage_error(run: Run, args: tuple[str, ...]) -> None:
    """The refusal comes before any call of a server."""
    assert run(*args).code == 2


def test_what_is_not_there_is_refused(command: Run, session: sessions.Session) -> None:
    """The exit code is that of a refusal."""
    assert command("approval", "show", session.id.hex(), "00" * 16).code == 3


def test_a_key_that_others_may_read_is_refused(
    command: Run, pending: ApprovalRecord, keys: dict[str, Path]
) -> None:
    """The refusal comes before anything is fetched or shown."""
    keys["ann"].chmod(0o640)
    ran = command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes")

    assert (ran.code, ran.out) == (5, "")
    assert "chmod 600" in ran.err


def test_check_takes_approvals_from_files_alone(run: Run, tmp_path: Path) -> None:
    """One as an argument, a damaged one, and one that is not there are refused, unrepeated."""
    text = approver("ann").sign(statement()).text
    damaged = tmp_path / "damaged"
    damaged.write_text(text[:40] + "AAAA" + text[44:])

    for source, told in ((text, "stdin"), (damaged, "damaged"), (tmp_path / "nowhere", "can't read")):
        ran = run("check", _some_token(run, tmp_path), "deploy", "prod/api", "--approval", source)
        assert (ran.code, ran.out) == (2, "")
        assert told in ran.err
        assert text[30:60] not in ran.err


def test_check_here_takes_nothing_that_only_the_server_takes(run: Run, tmp_path: Path) -> None:
    """Only a server can charge a call, so --state excludes costs."""
    token = _some_token(run, tmp_path)
    for more in (("--retry-id", "x"), ("--permit-ms", "1000")):
        ran = run("check", token, "deploy", "prod/api", "--state", tmp_path, *more)
        assert ran.code == 2
        assert "leave out --state" in ran.err


def _some_token(run: Run, tmp_path: Path) -> Path:
    out, key = tmp_path / f"t{len(list(tmp_path.iterdir()))}", tmp_path / "issuer.pem"
    if not key.exists():
        IssuerKey.generate().save(key)
    minted = run(
        *("token", "mint", "00" * 16, "--issuer-key", key, "--scope", "deploy:prod/**"),
        *("--audience", "gw", "--ttl", "1m", "--out", out),
    )
    assert minted.code == 0, minted.err
    return out


def _on_a_terminal(home: Path, typed: bytes, *args: object) -> tuple[Ran, str]:
    """Run a command whose stdin and stderr are a terminal; type when it asks. Gives also what it asked."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), *map(str, args)], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    seen, answered = b"", False
    while select.select([ours], [], [], 30)[0]:
        try:
            seen += os.read(ours, 4096)
        except OSError:
            break
        if not answered and b"[y/N]" in seen:
            answered = True
            os.write(ours, typed)
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    return Ran(process.returncode, out.decode(), ""), seen.decode()


@pytest.mark.parametrize(
    ("typed", "code", "signed"), [(b"y\n", 0, 1), (b"n\n", 130, 0), (b"\n", 130, 0), (b"\x04", 130, 0)]
)
def test_a_person_is_asked(
    server: Service, pending: ApprovalRecord, keys: dict[str, Path], typed: bytes, code: int, signed: int
) -> None:
    """A terminal shows the text to be signed first, and only a yes signs it."""
    ran, question = _on_a_terminal(
        server.made.home, typed, "approval", "grant", *ids(pending), "--key", keys["ann"]
    )

    assert (ran.code, status(server, pending)[1]) == (code, signed)
    assert '"prod/api"' in ran.out
    assert "once?" in question


def test_a_person_is_asked_with_json_too(
    server: Service, pending: ApprovalRecord, keys: dict[str, Path]
) -> None:
    """The text to be signed goes to the terminal, and stdout holds one document."""
    ran, question = _on_a_terminal(
        server.made.home, b"y\n", "approval", "grant", *ids(pending), "--key", keys["ann"], "--json"
    )

    assert '"prod/api"' in question
    assert ran.json["signed_by"] == [approver("ann").text]


def test_no_secret_is_said(command: Run, pending: ApprovalRecord, keys: dict[str, Path]) -> None:
    """Nothing that the commands print holds the private key."""
    secret = keys["ann"].read_text().splitlines()[1]
    said = ""
    runs: list[Callable[[], Ran]] = [
        lambda: command("approver-key", "show", keys["ann"], "--json"),
        lambda: command("approval", "grant", *ids(pending), "--key", keys["ann"], "--yes", "--json"),
        lambda: command("approval", "show", *ids(pending), "--json"),
    ]
    for each in runs:
        ran = each()
        assert ran.code == 0
        said += ran.out + ran.err

    assert secret not in said
    assert secret[24:] not in said
    assert record().id.hex() not in said


def test_a_call_from_its_denial_to_its_permit(
    command: Run, session: sessions.Session, keys: dict[str, Path], tmp_path: Path
) -> None:
    """Denied, listed, granted by two, allowed once with a permit, committed once."""
    named = ", ".join(f'"{approver(name).text}"' for name in KEYS)
    token = tmp_path / "deploy"
    scope = f"deploy:prod/** needs approval(2, {named})"
    minted = command("token", "mint", session.id.hex(), "--scope", scope, "--audience", "gw", "--out", token)
    assert minted.code == 0, minted.err
    call = ("deploy", "prod/api", "--audience", "gw", "--arguments", '{"version": "1.2"}')

    denied = command("check", token, *call, "--json")
    assert (denied.code, denied.json["reason"]) == (1, "APPROVAL_REQUIRED")
    wanted = denied.json["approval"]
    assert "sessauth approval list" in denied.json["explanation"]
    listed = command("approval", "list", "--session", session.id.hex(), "--json").json["approvals"]
    assert [each["id"] for each in listed] == [wanted["id"]]

    name = (session.id.hex(), wanted["id"])
    assert command("approval", "grant", *name, "--key", keys["ann"], "--yes").code == 0
    out = tmp_path / "signed by bob"
    assert command("approval", "grant", *name, "--key", keys["bob"], "--yes", "--out", out).code == 0
    bad = command("check", token, *call, "--approval", out, "--approval", out, "--json")
    assert (bad.code, bad.json["reason"]) == (1, "BAD_APPROVAL")

    pay = ("--approval", out, "--retry-id", "try 1", "--permit-ms", "60000", "--json")
    allowed = command("check", token, *call, *pay)
    again = command("check", token, *call, *pay)
    assert (allowed.code, again.code) == (0, 0)
    assert again.json["permit"] == allowed.json["permit"]

    permit = allowed.json["permit"]
    committed = command("permit", "commit", permit, token, *call)
    twice = command("permit", "commit", permit, token, *call, "--json")
    assert committed.code == 0, committed.out
    assert (twice.code, twice.json["reason"]) == (1, "BAD_PERMIT")
    spent = command("check", token, *call, "--json")
    assert (spent.code, spent.json["reason"]) == (1, "APPROVAL_REQUIRED")
    assert spent.json["approval"]["id"] != wanted["id"]


def test_a_permit_is_given_back(command: Run, session: sessions.Session, tmp_path: Path) -> None:
    """Its reservation is free for others; a released permit commits nothing."""
    token = tmp_path / "pay"
    scope = 'pay:shop where amount > 0 needs budget("money", 10, "EUR", amount)'
    minted = command("token", "mint", session.id.hex(), "--scope", scope, "--audience", "gw", "--out", token)
    assert minted.code == 0, minted.err
    call = ("pay", "shop", "--audience", "gw", "--arguments", '{"amount": 10}')

    held = command("check", token, *call, "--permit-ms", "60000", "--json")
    full = command("check", token, *call, "--json")
    released = command("permit", "release", held.json["permit"])
    free = command("check", token, *call, "--json")
    late = command("permit", "commit", held.json["permit"], token, *call, "--json")

    assert (held.code, full.json["reason"]) == (0, "BUDGET_EXHAUSTED")
    assert released.code == 0, released.err
    assert free.code == 0
    assert (late.code, late.json["reason"]) == (1, "BAD_PERMIT")
