"""Decision records added up by chain."""

cimport cython
from libc.stdint cimport uint64_t

from sessauth._fast._check cimport (
    LEVEL_CEILING,
    RECORD_ALLOWED,
    RECORD_TOKEN_ONLY,
    RECORD_WATCHED,
    Chain,
    DecisionRecord,
    RecordHead,
)


@cython.final
@cython.no_gc
cdef class ChainCalls:
    """The calls of one chain among some records: their number, and times in ms since 1970.

    ``record`` is one of them: that with the payloads, if there is one. A check of a token alone is a use of its blocks,
    but of no call: it is neither ``allowed`` nor ``denied``. ``last_allow_ms`` is 0 if no call was allowed.
    ``observed`` are the allowed ones that only observe mode allowed.
    """

    cdef readonly DecisionRecord record
    cdef readonly uint64_t calls
    cdef readonly uint64_t allowed
    cdef readonly uint64_t denied
    cdef readonly uint64_t observed
    cdef readonly uint64_t first_ms
    cdef readonly uint64_t last_ms
    cdef readonly uint64_t last_allow_ms

    def __init__(self):
        raise TypeError("ChainCalls are made by add_up")


def add_up(records not None, after_end not None):
    """Add up the calls of each chain with valid signatures.

    Returns:
        ChainCalls of each chain, in the order of their first calls; and the denials with a reason of ``after_end``
        (numbers), by any token. Withdrawals of an allow are no calls, and are left out.
    """
    cdef dict chains = {}
    cdef list ended = []
    cdef DecisionRecord record
    cdef const RecordHead *head
    cdef ChainCalls calls
    for item in records:
        record = <DecisionRecord?> item
        head = record.head
        if head.flags & RECORD_WATCHED:
            continue
        if not head.flags & RECORD_ALLOWED and head.reason in after_end:
            ended.append(record)
        if head.chain == NULL:
            continue
        calls = chains.get(<Chain> head.chain)
        if calls is None:
            calls = ChainCalls.__new__(ChainCalls)
            calls.record = record
            calls.first_ms = head.at_ms
            chains[<Chain> head.chain] = calls
        elif record.first:
            calls.record = record
        calls.calls += 1
        calls.first_ms = min(calls.first_ms, head.at_ms)
        calls.last_ms = max(calls.last_ms, head.at_ms)
        if head.flags & RECORD_TOKEN_ONLY:
            continue
        if head.flags & RECORD_ALLOWED:
            calls.allowed += 1
            calls.observed += head.level == LEVEL_CEILING
            calls.last_allow_ms = max(calls.last_allow_ms, head.at_ms)
        else:
            calls.denied += 1
    return list(chains.values()), ended
