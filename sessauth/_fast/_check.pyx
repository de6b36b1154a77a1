"""The check of one call: is it allowed, and if not, what is the first reason?

A token is a chain of signed blocks. Each one narrows what those before it permit, so a check asks every block, and only
an explicit allow at the end is a yes. ``check/stage_runner`` runs the stages in their order, one reason each
(docs/token-format.md, section 9); read it first, then ``check/stages``. From bottom to top:

- ``base``, ``codec``: text, numbers, libsodium, the strict reader of protobuf, tokens as text;
- ``call``: action, resource and arguments, read once, without Python objects;
- ``token``: blocks, scopes, conditions and proofs as bytes, and a Chain that keeps them decoded; ``nonces`` lets a
  proof count once;
- ``scopes``: what a condition and a scope say of a call;
- ``record``: counters, and the queue of records of decisions;
- ``check``: the view of sessions and keys, the cache of chains, the stages, batches, the Checker.

One module of many files: each ``include`` uses those above it. What ``_codec`` and ``_http2`` use too is declared in
``_check.pxd``. Nothing here reads a wall clock twice in a check, waits, or opens a connection.
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
