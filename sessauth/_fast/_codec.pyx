"""Everything around a check: its messages, its records as text, questions about scopes, surveys and replay.

It uses ``_check``, never the reverse. One module of many files, each with one subject:

- ``scopes/queries``: one scope or condition and one call, for Python; ``scopes/scope_text`` reads their texts;
- ``record``: decisions as lines of the audit log, and the chain of those lines;
- ``check/survey``: the permissions of a token, as yes, no or maybe for each candidate call;
- ``check/redecide``: a logged decision, repeated by the rows of its time;
- ``rpc_codec``: requests and answers of checks as bytes, for the server and its clients. ``rpc_codec/direct`` checks a
  request on the event loop of ``_http2``.
"""

include "codec/lenient_fields.pyx"

include "scopes/queries.pyx"
include "scopes/scope_text.pyx"

include "record/audit_json.pyx"

include "check/survey.pyx"

include "check/redecide.pyx"

include "rpc_codec/client_messages.pyx"
include "rpc_codec/item_options.pyx"
include "rpc_codec/check_messages.pyx"
include "rpc_codec/direct.pyx"
include "rpc_codec/ext_authz.pyx"
