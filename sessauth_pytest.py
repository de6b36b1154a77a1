"""The pytest fixture ``sessauth_service``: a real sessauth server for a test.

pytest loads this module in every run of an environment that has sessauth, so it imports nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessauth.testing import LocalService


@pytest.fixture
def sessauth_service() -> Iterator[LocalService]:
    """Give a running LocalService to one test: no test sees the sessions of another.

    A start takes a second or two. Tests that may share sessions share a server by a fixture of their own:

        @pytest.fixture(scope="module")
        def service():
            with LocalService() as service:
                yield service

    Raises Unavailable, with the last line of the server's log, if the server does not start.
    """
    from sessauth.testing import LocalService

    with LocalService() as service:
        yield service
