"""A server verifies its state: at its start as far as there is time, and on while it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.errors import StateUnusable
from sessauth.reasons import Reason
from sessauth.server import config as server_config
from sessauth.server.process import control as control_process
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.state import layout
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.changes import opening
from tests.support.service import home_folder, running
from tests.support.token_forger import id16, make
from tests.vectors.world import ISSUER, link, root

LEASED = id16("leased")


def lose_lease(writer: StateWriter) -> None:
    """Open a session with a lease, and lose the row of the lease."""
    writer.submit(opening("leased", LEASED, lease_ms=60_000)).result()
    source = writer.source()
    with source.env.begin(write=True) as txn:
        assert txn.delete(LEASED, db=source.tables[layout.LEASES])


def denies(state_dir: Path) -> bool:
    """Return True if an embedded verifier denies for the brake."""
    verifier = Verifier.embedded(state_dir, audience="gw")
    data = make(link(root("*:**", root_fields={"session_id": LEASED}, audience=["gw"])), [ISSUER])
    try:
        return verifier.check(data, "read", "files/a").reason is Reason.STATE_BRAKED
    finally:
        verifier.close()


def test_a_start_on_a_corrupt_state_is_refused() -> None:
    """The brake is set as well: a verifier that reads the folder without a server denies."""
    with home_folder() as home:
        made = initialise(home)
        config = server_config.from_dict({"home": str(home)})
        with StateWriter.open(made.state_dir) as writer:
            lose_lease(writer)
        for _ in range(2):
            with pytest.raises(StateUnusable, match="lost its lease") as caught:
                Control(config)
            assert caught.value.problem == "CORRUPT"
            assert denies(made.state_dir)


def test_what_the_start_has_no_time_for_is_verified_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong row that is read then stops the server, with every check denied."""
    monkeypatch.setattr(control_process, "VERIFY_AT_START_SECONDS", 0.0)
    monkeypatch.setattr(control_process, "VERIFY_A_TURN_SECONDS", 0.0)
    with running() as service:
        control = service.control
        assert control is not None
        lose_lease(control.writer)
        # The session's rows were read already, or are now.
        control.writer._verification = type(control.writer._verification)(control.writer.source())
        # The pages of each table are a turn of their own, before any row.
        for _ in range(len(layout.TABLES) + 2):
            control._verify_on()
        assert control.stopping.is_set()
        assert isinstance(control.failure, StateUnusable) and control.failure.problem == "CORRUPT"
        assert "CORRUPT" in control.writer.braked
