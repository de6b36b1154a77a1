"""Everything around a check: its messages, its records as text, questions about scopes, surveys and replay.

Uses ``_check``, which does not know it. One module of many files, each on its own subject:

- ``scopes/queries``: one scope or condition and one call, for Python;
- ``record``: decisions as lines of the audit log, and the chain of those lines;
- ``check/survey``: what a token permits, with yes, no or maybe for each scope;
- ``check/redecide``: the same stages by the rows of a logged decision;
- ``rpc_codec``: requests and answers of checks as bytes, for the server and its clients. ``rpc_codec/direct`` checks a
  request on the event loop of ``_http2``.
"""

include "codec/lenient_fields.pyx"

include "scopes/queries.pyx"

include "record/audit_json.pyx"

include "check/survey.pyx"

include "check/redecide.pyx"

include "rpc_codec/client_messages.pyx"
include "rpc_codec/item_options.pyx"
include "rpc_codec/check_messages.pyx"
include "rpc_codec/direct.pyx"
include "rpc_codec/ext_authz.pyx"
