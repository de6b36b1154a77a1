"""``sessauth demo``: six sessions from birth to death, on a real server."""

from .run import run as run
