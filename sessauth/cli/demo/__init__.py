"""``sessauth demo``: six sessions from birth to death, on a real server."""

from .main import main as main
