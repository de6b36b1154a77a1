"""How much one :class:`~sessauth.usage.session_usage.SessionUsage` may hold, whatever is done to it.

With all of them reached it holds about 2 MB; a session of some dozen tools holds a few KB. What is beyond a
bound is dropped by a rule that looks at *what* was seen and never at *when*: so verifiers may tell their
parts in any order.
"""

from __future__ import annotations

from typing import Final

# Distinct values of one argument, and their bytes together; beyond it only range and prefix are known.
MAX_VALUES: Final = 32
MAX_VALUES_BYTES: Final = 1024
MAX_PREFIX_BYTES: Final = 128
# A host that a URL names is kept apart from the URL, since URLs are many and hosts are few.
MAX_HOSTS: Final = 8

# Argument paths of one kind of call, the outermost first.
MAX_PATHS: Final = 24

# Resources of one action that are told apart, kinds of call in all, and actions in all when resources are
# no longer told apart.
MAX_RESOURCES: Final = 32
MAX_KINDS: Final = 128
MAX_GROUPS: Final = 64

# Rows of the tables: (action, resource), scopes, tokens, calls that were denied.
MAX_ROWS: Final = 128
MAX_POSITIONS: Final = 256
MAX_TOKENS: Final = 64
MAX_DENIED_ROWS: Final = 64
MAX_DENIED_REASONS: Final = 64
# Lists of scopes that tokens were minted with.
MAX_MINTED_LAYERS: Final = 16
