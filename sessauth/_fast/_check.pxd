"""Declarations of the check that ``_codec`` and ``_http2`` use too; each file needs those above it."""

include "base/arena.pxd"
include "base/limits.pxd"
include "base/text.pxd"

include "base/crypto.pxd"

include "codec/protobuf.pxd"

include "call/json_reader.pxd"

include "nonces/table.pxd"

include "record/json_writer.pxd"

include "call/argument_forms.pxd"

include "token/chain.pxd"

include "scopes/match.pxd"

include "record/decision_record.pxd"

include "check/checker.pxd"
