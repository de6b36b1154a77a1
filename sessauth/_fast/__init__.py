"""The kernel: tokens, scopes and checks, compiled. Imports nothing else of the package.

Importing it fails if an extension is missing or was built from other sources than those beside it:
there is no slower twin to fall back to, and a stale kernel is a wrong one.
"""

from sessauth._fast import _stamp

_stamp.verify()
