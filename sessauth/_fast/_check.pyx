"""The check of one call: an allow, or a denial with the first reason.

A token is a chain of signed blocks, each narrowing the permissions of those before it. A check evaluates every block,
and only an explicit allow after the last stage is a yes. ``check/stage_runner`` runs the stages in the order of
docs/token-format.md, section 9. Read it first, then ``check/stages``. From bottom to top:

- ``base``, ``codec``: text, numbers, libsodium, the strict reader of protobuf, tokens as text;
- ``call``: action, resource and arguments, read once, without Python objects;
- ``token``: parsers of proofs, conditions, scopes and blocks, and the Chain that keeps them compiled; ``nonces`` makes
  a proof count once;
- ``scopes``: evaluation of conditions, and matching of scopes against a call;
- ``record``: counters, and the queue of decision records;
- ``check``: the view of sessions and keys, the cache of chains, the stages, batches, the Checker.

One module of many files: each ``include`` uses those above it. ``_check.pxd`` declares the parts that ``_codec`` and
``_http2`` share. A check reads the wall clock at most once, never waits, and opens no connection.
"""

include "base/text.pyx"
include "base/address.pyx"

include "base/crypto.pyx"

include "codec/protobuf.pyx"

include "call/json_reader.pyx"

include "nonces/table.pyx"

include "record/json_writer.pyx"

include "call/argument_forms.pyx"
include "call/rpc_message.pyx"

include "token/proof.pyx"
include "token/condition.pyx"
include "token/block.pyx"
include "token/chain.pyx"

include "scopes/match.pyx"

include "record/decision_record.pyx"

include "check/decision.pyx"
include "check/chain_cache.pyx"
include "check/view.pyx"
include "check/batch.pyx"
include "check/stages.pyx"
include "check/stage_runner.pyx"
include "check/recording_runner.pyx"
include "check/checker.pyx"
