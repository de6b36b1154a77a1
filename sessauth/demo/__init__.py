"""``sessauth demo``: five sessions from birth to death, on a real server."""

from .main import main as main
