"""Waiting for records by etcd's Watch, which may end silently: a hint, never a proof."""

from __future__ import annotations

import time
from typing import Final

import grpc

from ...state.replication.carrier import CarrierError
from .keys import ClusterKeys, decode_head
from .members import Members
from .messages import RANGE, WATCH, get, pairs, parse, value_of
from .v1 import etcd_pb2 as pb

_PUT: Final = 0


class LogWatch:
    """Waits for records. Any thread may call."""

    def __init__(self, keys: ClusterKeys, members: Members) -> None:
        """Watch the log of these keys."""
        self._keys = keys
        self._members = members

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out.

        Raises CarrierError if the carrier is closed.
        """
        end = time.monotonic() + timeout_ms / 1000
        while (left := end - time.monotonic()) > 0:
            member = self._members.preferred
            try:
                self._watch(member, after, left)
                break
            except CarrierError:
                # Silent, or it ended the watch before its time: the next member, but not in a tight loop.
                self._members.leave(member)
                self._members.pause()
        self._members.pause(0)

    def _watch(self, member: int, after: int, timeout_s: float) -> None:
        """Return after a record or at the time-out. Raises CarrierError if the member is of no use."""
        key, end = self._keys.record(after + 1), self._keys.log_end
        request = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, range_end=end))
        try:
            # A stream of requests in etcd's API, of which one is used.
            stream = self._members.channel(member).unary_stream(WATCH, bytes, bytes)
            call = stream(request.SerializeToString(), timeout=timeout_s)
        except ValueError:
            raise CarrierError("the channel is closed") from None
        try:
            # A member that is silent is found so; a stream alone would be waited for until the time-out.
            if self._head(member) > after:
                return
            for data in call:
                answer = parse(pb.WatchResponse)(data)
                # Once the watch is in place, earlier records are in the head.
                if answer.created and self._head(member) > after:
                    return
                if answer.canceled:
                    break
                if any(event.type == _PUT for event in answer.events):
                    return
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            raise self._members.failure(member, error) from None
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs has no types of it
        raise CarrierError("etcd ended a watch")

    def _head(self, member: int) -> int:
        request = get(self._keys.head, by_member=True).request_range
        data = self._members.call(member, RANGE, request.SerializeToString())
        return decode_head(value_of(pairs(request, parse(pb.RangeResponse)(data)))).number
