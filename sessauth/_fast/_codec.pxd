"""Declarations that ``_http2`` uses too; each file needs those above it."""

include "rpc_codec/check_messages.pxd"
