"""``sessauth demo --cluster``: a cluster of real processes that loses its parts, one by one."""

from .play import run as run
