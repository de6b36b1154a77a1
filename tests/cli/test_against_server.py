from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.service import wait_until

from .conftest import Ran, Service

ACME = 'read:mcp/github/* where owner == "acme" free *'


def _open(service: Service, *more: object, ceiling: str = ACME) -> str:
    ran = service("session", "open", "--subject", "agent", "--ceiling", ceiling, "--json", *more)
    assert ran.code == 0, ran.err
    return str(ran.json["id"])


def _mint(service: Service, session: str, out: Path, *more: object, scope: str = ACME) -> Path:
    ran = service("token", "mint", session, "--scope", scope, "--audience", "gateway", "--out", out, *more)
    assert ran.code == 0, ran.err
    return out


def _check(service: Service, token: Path, arguments: str, *more: object) -> Ran:
    return service(
        "check", token, "read", "mcp/github/get", "--audience", "gateway", "--arguments", arguments, *more
    )


def test_a_session_from_open_to_end(service: Service, tmp_path: Path) -> None:
    """A call is allowed while the session lives and its conditions hold, and denied after the end."""
    session = _open(service)
    token = _mint(service, session, tmp_path / "t")

    allowed = _check(service, token, '{"owner": "acme"}')
    denied = _check(service, token, '{"owner": "evil"}')
    ended = service("session", "end", session, "--reason", "closed")
    gone = _check(service, token, '{"owner": "acme"}')

    assert (allowed.code, allowed.out.splitlines()[0]) == (0, "ALLOWED")
    assert (denied.code, denied.out.splitlines()[0]) == (1, "DENIED at stage scope")
    assert (ended.code, "ENDED" in ended.out) == (0, True)
    assert (gone.code, "SESSION_ENDED" in gone.out) == (1, True)


def test_denial_says_what_would_have_been_allowed_by_the_ceiling(service: Service, tmp_path: Path) -> None:
    """A call beyond the ceiling names layer, scope, clause and argument, and the condition to meet."""
    token = _mint(service, _open(service), tmp_path / "t", scope="read:mcp/github/*")

    ran = _check(service, token, '{"owner": "evil"}')

    assert "ceiling layer 0, scope 0" in ran.out
    assert "condition 0 on argument `owner` does not hold" in ran.out
    assert 'it would allow `owner == "acme"`' in ran.out


def test_denial_says_what_would_have_been_allowed_by_the_block(service: Service, tmp_path: Path) -> None:
    """A call beyond an attenuation names its block and label, and JSON has the position too."""
    session = _open(service, ceiling="read:mcp/** free *")
    stored = _mint(service, session, tmp_path / "t", "--open", scope="read:mcp/** free *")
    child = tmp_path / "child"
    narrow = 'read:mcp/github/* where repo == "web" free *'
    service("token", "attenuate", stored, "--scope", narrow, "--label", "sub-agent", "--out", child)

    ran = _check(service, child, '{"repo": "payroll"}')
    document = _check(service, child, '{"repo": "payroll"}', "--json").json

    assert ran.code == 1
    assert "block 1 (label 'sub-agent'), scope 0" in ran.out
    assert 'it would allow `repo == "web"`' in ran.out
    assert document["failed"] == {"level": "BLOCK", "index": 1, "scope": 0, "clause": 0, "argument": "repo"}
    assert (document["allowed"], document["reason"]) == (False, "CONDITION_FAILED")
    assert 'repo == "web"' in document["explanation"]


def test_embedded_check_agrees_with_the_server(service: Service, tmp_path: Path) -> None:
    """A check by the state folder gives the decision and the explanation that the server gives."""
    token = _mint(service, _open(service), tmp_path / "t")
    state = ("--state", service.home / "state")

    for arguments, code in (('{"owner": "acme"}', 0), ('{"owner": "evil"}', 1), ('{"owner": NaN}', 1)):
        remote, local = _check(service, token, arguments), _check(service, token, arguments, *state)
        assert (remote.code, local.code) == (code, code)
        assert remote.out.splitlines()[:2] == local.out.splitlines()[:2]


def test_an_open_token_is_denied_and_its_secret_stays(service: Service, tmp_path: Path) -> None:
    """A stored token handed to check is denied as open."""
    stored = _mint(service, _open(service), tmp_path / "t", "--open")

    ran = _check(service, stored, '{"owner": "acme"}')

    assert ran.code == 1
    assert "OPEN_TOKEN" in ran.out


def test_arguments_from_file_and_stdin(service: Service, tmp_path: Path) -> None:
    """Arguments are given as JSON, as @FILE, or as @- for stdin."""
    token = _mint(service, _open(service), tmp_path / "t")
    file = tmp_path / "arguments.json"
    file.write_text('{"owner": "acme"}')

    assert _check(service, token, f"@{file}").code == 0
    file.write_bytes(b'{"owner": "acme\xff"}')
    assert "MALFORMED_REQUEST" in _check(service, token, f"@{file}").out
    file.write_bytes(b'{"owner": "acme", "x": "' + b"x" * 1_048_576 + b'"}')
    assert "MALFORMED_REQUEST" in _check(service, token, f"@{file}").out
    file.write_bytes(b" " * 3_000_000)
    assert _check(service, token, f"@{file}").code == 2
    ran = service(
        "check", token, "read", "mcp/github/get", "--audience", "gateway", "--arguments", "@-",
        stdin='{"owner": "acme"}',
    )  # fmt: skip
    assert ran.code == 0


def test_revoke_kills_the_last_block_by_default(service: Service, tmp_path: Path) -> None:
    """Revoking a child leaves its parent's other children alive; revoking block 0 kills all."""
    stored = _mint(service, _open(service), tmp_path / "t", "--open")
    one, two = tmp_path / "one", tmp_path / "two"
    for child in (one, two):
        assert service("token", "attenuate", stored, "--label", child.name, "--out", child).code == 0

    revoked = service("token", "revoke", one, "--reason", "leaked", "--json")
    assert revoked.code == 0
    assert _check(service, one, '{"owner": "acme"}').code == 1
    assert _check(service, two, '{"owner": "acme"}').code == 0
    shown = service("token", "inspect", one, "--server")
    assert "REVOKED" in shown.out

    assert service("token", "revoke", two, "--block", 0).code == 0
    assert _check(service, two, '{"owner": "acme"}').code == 1


def test_revoke_by_block_id(service: Service, tmp_path: Path) -> None:
    """A block is revoked by session and block id too, without its token."""
    session = _open(service)
    token = _mint(service, session, tmp_path / "t")
    block = service("token", "inspect", token, "--json").json["blocks"][0]["block_id"]

    assert service("token", "revoke", "--session", session, "--block-id", block).code == 0
    assert _check(service, token, '{"owner": "acme"}').code == 1


def test_inspect_by_server_and_state(service: Service, tmp_path: Path) -> None:
    """The server and its state folder both verify a token, and name the session's status or the key's."""
    token = _mint(service, _open(service), tmp_path / "t")

    by_server = service("token", "inspect", token, "--server")
    by_state = service("token", "inspect", token, "--state", service.home / "state", "--json").json

    assert (by_server.code, by_server.out.startswith("VERIFIED by the server")) == (0, True)
    assert (by_state["verdict"], by_state["session_status"]) == ("VERIFIED", "ACTIVE")


def test_what_is_below_an_ended_session_is_shown_ended(service: Service, tmp_path: Path) -> None:
    """`get` names the session that it inherits it from; `list` and a token's inspection show it, too."""
    parent = _open(service, "--label", "family=one")
    child = _open(service, "--label", "family=one", "--parent", parent)
    token = _mint(service, child, tmp_path / "t")
    service("session", "suspend", parent)
    suspended = service("session", "list", "--label", "family=one", "--status", "suspended", "--json").json
    service("session", "end", parent, "--reason", "all of them")
    shown = service("session", "get", child).out.splitlines()
    listed = service("session", "list", "--label", "family=one").out
    ended = service("session", "list", "--label", "family=one", "--all", "--json").json["sessions"]
    inspected = service("token", "inspect", token, "--state", service.home / "state", "--json").json

    assert {each["id"] for each in suspended["sessions"]} == {parent, child}
    assert {tuple(line.split()) for line in shown} >= {
        ("status", "ENDED"),
        ("inherited", "from", parent),
        ("cause", "PARENT_ENDED"),
        ("reason", "all", "of", "them"),
    }
    assert "none lives" in listed
    assert {each["id"]: (each["status"], each["inherited_from"]) for each in ended} == {
        parent: ("ENDED", ""),
        child: ("ENDED", parent),
    }
    assert inspected["session_status"] == "ENDED"


def test_facts_narrow_suspend_resume(service: Service) -> None:
    """Each change of a session shows in the answer, and narrow, suspend and resume move the epoch."""
    session = _open(service, "--fact", "case=c1", "--visible-fact", "level:=2.5")

    facts = service("session", "facts", session, "--fact", "case=c2", "--remove", "level", "--json").json
    narrowed = service(
        "session", "narrow", session, "--ceiling", 'read:mcp/github/get where owner == "acme"', "--json"
    )
    suspended = service("session", "suspend", session, "--reason", "odd", "--json").json
    resumed = service("session", "resume", session, "--json").json

    assert facts["facts"] == {"case": {"value": "c2", "visible": False}}
    assert narrowed.json["epoch"] == facts["epoch"] + 1
    assert (suspended["status"], suspended["reason"]) == ("SUSPENDED", "odd")
    assert (resumed["status"], resumed["epoch"]) == ("ACTIVE", narrowed.json["epoch"] + 2)


def test_narrow_reads_scopes_from_a_file(service: Service, tmp_path: Path) -> None:
    """A session that runs gets the scopes that a report suggested; a line that is none changes nothing."""
    session = _open(service)
    file = tmp_path / "enough.scopes"
    file.write_text("# suggested\nread:mcp/github/get\n")

    narrowed = service("session", "narrow", session, "--ceiling-file", file, "--json").json
    file.write_text("read:\n")
    refused = service("session", "narrow", session, "--ceiling-file", file)

    assert narrowed["epoch"] == 2
    assert (refused.code, "line 1" in refused.err) == (2, True)
    assert service("session", "get", session, "--json").json["epoch"] == 2


def test_an_exception_takes_one_tool_from_a_session_that_runs(service: Service, tmp_path: Path) -> None:
    """Narrowed so, a token keeps all else; the denial names the exception, and no token has one."""
    session = _open(service, ceiling="*:mcp/**")
    token = _mint(service, session, tmp_path / "token", scope="*:mcp/**")

    def checked(action: str, tool: str, arguments: str = "{}") -> Ran:
        return service(
            *("check", token, action, f"mcp/{tool}", "--audience", "gateway", "--arguments", arguments)
        )

    assert checked("run", "shell/bash").code == 0
    exceptions = ["except *:mcp/shell/**", 'except send:mcp/chat/post where to in ["@all", "@here"]']
    options = [part for text in exceptions for part in ("--ceiling", text)]
    narrowed = service("session", "narrow", session, *options, "--json")
    assert narrowed.code == 0, narrowed.err
    denied = checked("run", "shell/bash")
    assert (denied.code, "OUT_OF_SCOPE" in denied.out) == (1, True)
    assert "exception of ceiling layer 1 denies this call, scope 0 `except *:mcp/shell/**`" in denied.out
    assert checked("send", "chat/post", '{"to": "@all"}').code == 1
    assert checked("send", "chat/post", '{"to": "@ana"}').code == 0
    shown = service("session", "get", session, "--json").json
    assert shown["ceilings"] == [["*:mcp/**"], exceptions]
    refused = service(
        *(
            "token",
            "mint",
            session,
            "--scope",
            exceptions[0],
            "--audience",
            "gateway",
            "--out",
            tmp_path / "x",
        )
    )
    assert (refused.code, "ceiling of a session alone" in refused.err) == (2, True), refused.err


def test_decimal_facts_stay_exact(service: Service) -> None:
    """A fact with decimal places is shown as it was given."""
    session = _open(service, "--fact", "ratio:=0.1")

    assert "ratio = 0.1" in service("session", "get", session).out
    assert service("session", "get", session, "--json").json["facts"]["ratio"]["value"] == "0.1"


def test_list_shows_the_living_first_and_the_newest_first(service: Service) -> None:
    """Without --all a list has no ended session; what --limit leaves out is said."""
    first = [_open(service, "--label", "batch=list") for _ in range(4)]
    service("session", "end", first[3])
    service("session", "suspend", first[0])

    def listed(*args: object) -> list[int]:
        document = service("session", "list", "--label", "batch=list", "--json", *args).json
        return [first.index(session["id"]) for session in document["sessions"]]

    assert listed() == [2, 1, 0]
    assert listed("--all") == [2, 1, 0, 3]
    assert listed("--status", "ACTIVE") == listed("--status", "active") == [2, 1]
    assert listed("--status", "ENDED") == [3]
    assert listed("--limit", 2) == [2, 1]
    lines = service("session", "list", "--label", "batch=list", "--limit", 2).out.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "SUBJECT", "PURPOSE", "OWNER", "AGE", "LEFT"]
    assert [line.split()[0] for line in lines[1:3]] == [first[2], first[1]]
    assert lines[3] == "2 of 3: --limit shows more"


def test_keep_alive_and_children(service: Service) -> None:
    """A lease is renewed; a child opens under its parent and dies with it."""
    parent = _open(service, "--lease", "30s")
    child = _open(service, "--parent", parent)

    assert service("session", "keep-alive", parent, "--json").json["lease_deadline_ms"] > 0
    assert service("session", "get", child, "--json").json["parent_id"] == parent
    assert service("session", "list", "--parent", parent, "--json").json["sessions"][0]["id"] == child


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("session", "get", "00" * 16), "NOT_FOUND"),
        (("session", "end", "00" * 16), "NOT_FOUND"),
        (("keys", "retire", "00" * 32), "NOT_FOUND"),
    ],
)
def test_refusals_exit_with_3(service: Service, args: tuple[str, ...], word: str) -> None:
    """A refusal of the server is exit code 3, with its word in the JSON on stderr."""
    ran = service(*args, "--json")

    assert (ran.code, ran.out) == (3, "")
    assert json.loads(ran.err)["error"]["word"] == word


def test_ending_twice_is_refused_in_words(service: Service) -> None:
    """A second end is refused with the log's word, once, and the first request's id repeats its outcome."""
    session = _open(service)
    assert service("session", "end", session, "--request-id", f"end-{session}").code == 0

    again = service("session", "end", session)
    repeated = service("session", "end", session, "--request-id", f"end-{session}")

    assert again.code == 3
    assert again.err.startswith("sessauth: ALREADY_ENDED: it ended")
    assert repeated.code == 0


def test_keys_from_prepared_to_distrusted(service: Service, tmp_path: Path, issuer_key: Path) -> None:
    """A key is added from a file, activated, retired and distrusted, and the set of keys is a JWK set."""
    added = service("keys", "add", "--public-key", issuer_key, "--owner", "robot", "--json").json
    assert (added["status"], added["owner"]) == ("PREPARED", "robot")

    for command, status in (("activate", "ACTIVE"), ("retire", "RETIRED"), ("distrust", "DISTRUSTED")):
        assert service("keys", command, added["id"], "--json").json["status"] == status

    listed = service("keys", "list").out
    assert added["id"] in listed
    assert {key["kty"] for key in service("keys", "jwks").json["keys"]} == {"OKP"}


def test_credentials_open_and_close_the_door(service: Service, tmp_path: Path) -> None:
    """A credential works with its role within a second of being added, and no more once it is removed."""
    out = tmp_path / "credential"
    assert service("credential", "add", "viewer", "--role", "auditor", "--out", out).code == 0
    assert "viewer" in service("credential", "list").out

    viewer = ("--credential-file", out)
    assert wait_until(lambda: service(*viewer, "session", "list").code == 0)
    refused = service(*viewer, "session", "open", "--subject", "x", "--ceiling", "read:x")
    assert (refused.code, "may not do that" in refused.err) == (3, True)

    assert service("credential", "remove", "viewer").code == 0
    assert service("credential", "remove", "viewer").code == 3
    assert wait_until(lambda: service(*viewer, "session", "list").code == 3)


def test_invalid_argument_names_the_field(service: Service) -> None:
    """A request that the server can't accept is a usage error that names the field."""
    ran = service("session", "open", "--subject", "x", "--ceiling", "read:a//b")

    assert ran.code == 2
    assert "ceiling" in ran.err
