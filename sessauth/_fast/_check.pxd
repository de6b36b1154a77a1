"""Declarations of the check that ``_codec`` and ``_http2`` use too; each file needs those above it."""

include "base/arena.pxd"
include "base/char_classes.pxd"
include "base/clock.pxd"
include "base/limits.pxd"
include "base/text.pxd"
include "base/decimal.pxd"

include "crypto/ed25519.pxd"
include "crypto/hashing.pxd"

include "codec/protobuf.pxd"

include "call/json_reader.pxd"
include "call/resource.pxd"

include "nonces/table.pxd"

include "record/json_writer.pxd"

include "call/check_state.pxd"
include "call/argument_forms.pxd"

include "token/proof.pxd"
include "token/value.pxd"
include "token/condition.pxd"
include "token/scope.pxd"
include "token/block.pxd"
include "token/chain.pxd"

include "scopes/json_lookup.pxd"
include "scopes/operand.pxd"
include "scopes/evaluate.pxd"
include "scopes/match.pxd"

include "record/counters.pxd"
include "record/decision_record.pxd"
include "record/queue.pxd"

include "check/commit_id.pxd"
include "check/decision.pxd"
include "check/freshness.pxd"
include "check/chain_cache.pxd"
include "check/proof_stage.pxd"
include "check/view.pxd"
include "check/lineage.pxd"
include "check/batch.pxd"
include "check/stages.pxd"
include "check/stage_runner.pxd"
include "check/batch_runner.pxd"
include "check/recording_runner.pxd"
include "check/checker.pxd"
include "check/three_valued.pxd"
