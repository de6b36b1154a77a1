"""Beats of a cluster's servers that a host accepts: those signed by active keys of its own folder."""

from __future__ import annotations

from collections.abc import Mapping

from ...crypto.issuer_key import KeyStatus
from ...model.group_record import SERVER_OWNER
from ...model.host import LIST_SUFFIX, ServerBeat, SignedBeat
from ..lmdb.rows import TxnRows


def genuine_beats(rows: TxnRows, beats: Mapping[str, bytes]) -> dict[str, ServerBeat]:
    """Return the beats signed for this cluster by an active key of their server, by server; with hosts."""
    cluster_id, found = rows.head().cluster_id, {}
    keys = [
        key for key in map(rows.key, rows.key_ids()) if key is not None and key.status is KeyStatus.ACTIVE
    ]
    for server, data in beats.items():
        own = {key.id: key.public_key for key in keys if key.owner == SERVER_OWNER + server}
        beat, listed = (SignedBeat.read(each, own) for each in (data, beats.get(server + LIST_SUFFIX, b"")))
        if beat is not None and (beat.cluster_id, beat.server) == (cluster_id, server):
            found[server] = beat.with_hosts(listed) or beat
    return found
