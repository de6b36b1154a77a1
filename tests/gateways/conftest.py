"""The server of the guard's tests."""

from tests.guard.conftest import guard_server as guard_server
from tests.guard.conftest import world as world
