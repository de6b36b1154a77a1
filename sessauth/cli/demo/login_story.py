"""The demo of identity: Ann logs in, her agents act, and what her identity provider says stops them.

The provider is a key of this process. Its statements arrive as a provider sends them: by HTTP at ``sessauth
gateway security-events``, a program of its own. Three verifiers are embedded here, as in three gateways. Each
step is stated with its expected result.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlencode

from ...client import Client
from ...clock import SystemClock
from ...errors import IdentityRefused, Unavailable, UsageError
from ...model.receipt import ReceiptState
from ...model.receipt import verify as verify_receipt
from ...reasons import Reason
from ...server.keys.credentials import CredentialFile
from ...testing.local_service import LocalService
from ...tokens.token import Token
from ...verifier.verifier import ServerBackedVerifier

AUDIENCE: Final = "gateway"
GATEWAYS: Final = 3
ISSUER: Final = "https://idp.example"
SERVICE: Final = "https://sessauth.example"
CEILING: Final = "read:files/**"
_READ: Final = ("read", "files/ann/letter")
_WAIT_S: Final = 10.0
_PAUSE_S: Final = 0.001
_RISK: Final = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change"
_DISABLED: Final = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
_FORM: Final = "application/x-www-form-urlencoded"
_LOGOUT: Final = "http://schemas.openid.net/event/backchannel-logout"


def _now_s() -> int:
    """Return the time in seconds since 1970, as tokens state it."""
    return SystemClock().now_ms() // 1000


@dataclass(frozen=True, slots=True)
class IdentityStep:
    """One step of the demo: its expected and its real result, and the time until the last gateway had it.

    ``ms`` counts from the moment at which the provider began to send; 0 where it sent nothing.
    """

    step: str
    expected: str
    result: str
    ms: float = 0.0

    @property
    def as_expected(self) -> bool:
        """True if the result is the expected one."""
        return self.result == self.expected


class DemoProvider:
    """An identity provider: a key, and what it signs about its users."""

    def __init__(self) -> None:
        """Make the key. Raises UsageError without ``sessauth[identity]``."""
        try:
            from joserfc.jwk import ECKey
        except ImportError:
            raise UsageError("this demo needs sessauth[identity]: install that extra") from None
        self._key = ECKey.generate_key("P-256", {"kid": "demo"})

    def sign(self, typ: str, **claims: object) -> str:
        """Return a JWT of the provider that was issued now."""
        from joserfc import jwt

        stated = {"iss": ISSUER, "iat": _now_s(), "jti": secrets.token_hex(8), **claims}
        return jwt.encode({"alg": "ES256", "kid": "demo", "typ": typ}, stated, self._key)

    def settings(self, key_file: Path) -> dict[str, object]:
        """Return the provider's entry in a server's settings; its public key is written to ``key_file``."""
        key_file.write_text(json.dumps({"keys": [self._key.as_dict(private=False)]}))
        return {
            "name": "corp",
            "issuer": ISSUER,
            "audience": SERVICE,
            "clients": ["desk"],
            "jwks_file": str(key_file),
            "grants": [{"ceiling": [CEILING]}],
        }

    def id_token(self, user: str, sid: str, login_s: int) -> str:
        """Return an ID token of a login of a user, as a refresh gives it at any time."""
        expires = _now_s() + 600
        return self.sign("JWT", sub=user, aud="desk", sid=sid, auth_time=login_s, exp=expires)

    def logout(self, sid: str) -> str:
        """Return the form that says that a login is over."""
        claims = {"aud": "desk", "sid": sid, "exp": _now_s() + 120, "events": {_LOGOUT: {}}}
        return urlencode({"logout_token": self.sign("logout+jwt", **claims)})

    def event(self, user: str, kind: str, **content: object) -> str:
        """Return a security event about a user."""
        named = {"format": "iss_sub", "iss": ISSUER, "sub": user}
        return self.sign("secevent+jwt", aud=SERVICE, sub_id=named, events={kind: content})


class CarrierConnection(HTTPConnection):
    """A provider's connection to the program that carries statements, over its socket."""

    def __init__(self, path: Path) -> None:
        """Connect at the first statement."""
        super().__init__("localhost", timeout=_WAIT_S)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_WAIT_S)
        self.sock.connect(str(self.path))

    def post(self, path: str, body: str) -> None:
        """Send a statement. Raises Unavailable unless the server has made the change that it asks for."""
        kind = "application/secevent+jwt" if path.startswith("/events/") else _FORM
        self.request("POST", path, body, {"Content-Type": kind})
        with self.getresponse() as response:
            response.read()
        if response.status not in (200, 202):
            raise Unavailable(f"the statement was answered with {response.status}")


@dataclass
class IdentityDemo:
    """The running parts, and the steps so far."""

    client: Client
    provider: DemoProvider
    gateways: list[ServerBackedVerifier]
    statements: CarrierConnection
    show: Callable[[str], None]
    steps: list[IdentityStep] = field(default_factory=list)

    def state(self, step: str, expected: str, result: str, ms: float = 0.0) -> None:
        """Note and show a step."""
        done = IdentityStep(step, expected, result, round(ms, 1))
        self.steps.append(done)
        timing = f"{ms:7.1f} ms" if ms else f"{'':10}"
        wrong = "" if done.as_expected else f"  NOT AS EXPECTED: {expected}"
        self.show(f"  {result:20}{timing}  {step}{wrong}")

    def check(self, step: str, token: Token, expected: Reason, since: float = 0.0) -> None:
        """Check a call at each gateway until all answer as expected. ``since``: what began to count then."""
        until = time.monotonic() + _WAIT_S
        while True:
            found = {each.check(token.data, *_READ).reason for each in self.gateways}
            if found == {expected} or time.monotonic() > until:
                break
            time.sleep(_PAUSE_S)
        result = ", ".join(sorted(each.name for each in found))
        self.state(step, expected.name, result, (time.perf_counter() - since) * 1000 if since else 0.0)

    def open(self, step: str, expected: str, **terms: Any) -> bytes:
        """Open a session; return its id, or nothing if it is refused."""
        try:
            session = self.client.open_session(ceiling=[CEILING], **terms)
        except IdentityRefused as error:
            self.state(step, expected, error.fault)
            return b""
        self.state(step, expected, "opened")
        return session.id


def _play(demo: IdentityDemo) -> None:
    """Play the story."""
    provider, client = demo.provider, demo.client
    login_s = _now_s() - 60
    demo.show("Ann logs in on her laptop and on her phone. Her agents open sessions with her ID tokens.")
    demo.open("an agent that only states that it acts for user:ann", "IDENTITY_REQUIRED", subject="user:ann")
    tokens = {}
    for device in ("laptop", "phone"):
        agent = f"agent:{device}"
        session_id = demo.open(
            f"{agent}, with the ID token of the {device}",
            "opened",
            subject=agent,
            identity_token=provider.id_token("ann", device, login_s),
        )
        tokens[agent] = client.mint(session_id, [CEILING], [AUDIENCE], ending="open")
    sub_agent = tokens["agent:laptop"].attenuate(scopes=["read:files/ann/*"], label="sub-agent")
    tokens["its sub-agent"] = sub_agent
    held = {name: token.present() for name, token in tokens.items()}
    for name, token in held.items():
        demo.check(f"{name} reads a file at three gateways", token, Reason.ALLOWED)

    demo.show("\nThe provider finds her account at risk, and then not any more.")
    for level, expected in (("HIGH", Reason.SESSION_SUSPENDED), ("LOW", Reason.ALLOWED)):
        began = time.perf_counter()
        # Both are in one second, so they say when in it.
        event = provider.event(
            "ann", _RISK, current_level=level, event_timestamp=SystemClock().now_ms() / 1000
        )
        demo.statements.post("/events/corp", event)
        demo.check(f"risk {level}: sub-agent", held["its sub-agent"], expected, began)

    demo.show("\nAnn logs out on her laptop.")
    began = time.perf_counter()
    demo.statements.post("/logout/corp", provider.logout("laptop"))
    demo.check("the laptop's agent", held["agent:laptop"], Reason.SESSION_ENDED, began)
    demo.check("its sub-agent", held["its sub-agent"], Reason.SESSION_ENDED)
    demo.check("the phone's agent goes on", held["agent:phone"], Reason.ALLOWED)
    refreshed = provider.id_token("ann", "laptop", login_s)
    demo.open(
        "an agent with a refreshed token of the laptop", "IDENTITY_CUT", subject="a", identity_token=refreshed
    )

    demo.show("\nHer account is disabled.")
    began = time.perf_counter()
    demo.statements.post("/events/corp", provider.event("ann", _DISABLED))
    demo.check("the phone's agent", held["agent:phone"], Reason.SESSION_ENDED, began)
    later = provider.id_token("ann", "desk", _now_s() + 1)
    demo.open("an agent with a new login", "IDENTITY_CUT", subject="a", identity_token=later)


def _not_closed(client: Client) -> list[str]:
    """Return the sessions whose receipt, verified by the service's public keys, is not CLOSED in time."""
    keys, until = client.jwks(), time.monotonic() + _WAIT_S
    waiting = [each.id for each in client.list_sessions(page_size=100).sessions]
    while waiting and time.monotonic() < until:
        receipts = {each: verify_receipt(client.get_receipt(each), keys, session_id=each) for each in waiting}
        waiting = [each for each, receipt in receipts.items() if receipt.state is not ReceiptState.CLOSED]
        time.sleep(_PAUSE_S)
    return [each.hex() for each in waiting]


@contextmanager
def carrier(home: Path) -> Iterator[CarrierConnection]:
    """Run the program that carries statements to the server of a home folder; yield a connection to it.

    Raises Unavailable if it does not start.
    """
    credential, listening = home / "statements.credential", home / "statements.sock"
    credential.touch(mode=0o600)
    credential.write_text(CredentialFile(home / "state" / "credentials.toml").add("corp", "security-events"))
    command = [sys.executable, "-m", "sessauth.cli.main", "--home", str(home)]
    command += ["--credential-file", str(credential), "gateway", "security-events", "--listen"]
    with (
        (home / "statements.log").open("w+b") as log,
        subprocess.Popen([*command, str(listening)], stdout=log, stderr=log) as program,
    ):
        try:
            until = time.monotonic() + 3 * _WAIT_S
            while not listening.exists():
                if program.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    cause = log.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise Unavailable(f"the program that carries statements did not start: {cause}")
                time.sleep(10 * _PAUSE_S)
            with closing(CarrierConnection(listening)) as connection:
                yield connection
        finally:
            program.terminate()


def run_identity(write: Callable[[str], None], *, as_json: bool = False) -> int:
    """Play the story, and ``write`` its steps line by line, or one JSON document at the end.

    Returns 0 if every step came out as expected and every receipt is CLOSED, else 1. Raises UsageError
    without ``sessauth[identity]``, Unavailable if a part does not start.
    """
    provider = DemoProvider()
    with ExitStack() as opened:
        keys = Path(opened.enter_context(TemporaryDirectory())) / "corp.json"
        service = opened.enter_context(LocalService({"identity_providers": [provider.settings(keys)]}))
        statements = opened.enter_context(carrier(service.home))
        gateways = [
            opened.enter_context(service.verifier(AUDIENCE, register_as=f"{AUDIENCE}-{number}"))
            for number in range(1, GATEWAYS + 1)
        ]
        show = (lambda _: None) if as_json else write
        demo = IdentityDemo(service.client, provider, gateways, statements, show)
        _play(demo)
        left = _not_closed(service.client)
        sessions = len(service.client.list_sessions(page_size=100).sessions)
    wrong = [each for each in demo.steps if not each.as_expected]
    demo.show(f"\n{sessions} sessions, two of them logins: {sessions - len(left)} receipts CLOSED")
    demo.show(f"{len(demo.steps)} steps, {len(wrong)} not as expected")
    if as_json:
        steps = [{**asdict(each), "as_expected": each.as_expected} for each in demo.steps]
        write(json.dumps({"steps": steps, "sessions": sessions, "not_closed": left}, indent=2))
    return 1 if wrong or left else 0
