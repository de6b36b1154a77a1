"""Limits of one :class:`~sessauth.usage.session_usage.SessionUsage`.

With all of them reached it holds about 2 MB; a session of some dozen tools holds a few KB. Contents beyond a
limit are dropped by value and never by time: so parts merge in any order.
"""

from __future__ import annotations

from typing import Final

# Distinct values of one argument, and their bytes together; beyond them only range and prefix are known.
MAX_VALUES: Final = 32
MAX_VALUES_BYTES: Final = 1024
MAX_PREFIX_BYTES: Final = 128
# Hosts are stored beside URLs: there are many URLs and few hosts.
MAX_HOSTS: Final = 8

# Argument paths of one kind of call, the outermost first.
MAX_PATHS: Final = 24
# JSON values of one call that are read inside lists of objects; a list beyond it is not entered.
MAX_ELEMENT_VALUES: Final = 512

# Separate resources of one action; call groups in all; actions in all once resources are joined.
MAX_RESOURCES: Final = 32
MAX_KINDS: Final = 128
MAX_GROUPS: Final = 64

# Rows of the tables: (action, resource), scopes, tokens, calls that were denied.
MAX_ROWS: Final = 128
MAX_POSITIONS: Final = 256
MAX_TOKENS: Final = 64
MAX_DENIED_ROWS: Final = 64
MAX_DENIED_REASONS: Final = 64
# Calls that a ceiling in observe mode would have refused.
MAX_OBSERVED_ROWS: Final = 64
# Of an argument's name there; in UTF-8 it has at most four times as many bytes.
MAX_OBSERVED_CHARS: Final = 256
# Lists of scopes that tokens were minted with.
MAX_MINTED_LAYERS: Final = 16
