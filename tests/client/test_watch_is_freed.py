"""A watch that was closed leaves nothing that the end of the interpreter could wait for."""

from __future__ import annotations

import gc
from typing import Any

from grpc._channel import _MultiThreadedRendezvous

from sessauth.client import CheckItem, Client
from tests.support.service import running
from tests.support.watching import mint, open_session


def _streams() -> list[Any]:
    return [each for each in gc.get_objects() if isinstance(each, _MultiThreadedRendezvous)]


def test_its_stream_is_freed_without_the_collector() -> None:
    """Grpc's finalizer takes a lock, which a thread may have that the interpreter's end stopped."""
    gc.collect()
    gc.disable()
    try:
        before = len(_streams())
        with running() as service:
            operator = service.operator
            token = mint(operator, open_session(operator).id).token
            with Client(str(service.made.socket), operator.credential) as client:
                watch = client.watch(audience="gw")
                assert watch.ask(CheckItem(token, "read", "files/a/x"))
                assert len(_streams()) == before + 1
                watch.close()
                watch.close()
                assert len(_streams()) == before
    finally:
        gc.enable()
