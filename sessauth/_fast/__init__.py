"""The kernel: tokens, scopes and checks, compiled. Imports nothing else of the package.

Importing it fails if an extension is missing or was built from other sources than those beside it:
no slower implementation replaces a missing one, and a stale one answers wrongly.
"""

from sessauth._fast import _stamp

_stamp.verify()
