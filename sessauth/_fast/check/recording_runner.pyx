"""Prepared tokens, and records of decisions.

The process that makes a decision records it once, when it answers. The paths of a check record their own answers.
Decisions that are answered later are recorded here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.argument_forms cimport json_slice
from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, input_init, outcome_free, slice_of, set_argument
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.batch cimport Batch, Item
from sessauth._fast.check.batch_runner cimport BatchRunner
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.recording_runner cimport text_is_text
from sessauth._fast.record.counters cimport CheckCounters
from sessauth._fast.record.queue cimport DecisionQueue

__all__ = ["RecordingRunner", "Prepared"]


@cython.final
cdef class Prepared:
    """A token for repeated use by one checker: looked up once, judged anew each time."""


cdef class RecordingRunner(BatchRunner):
    """Adds records and counters of decisions. See StageRunner for the chain of classes."""

    def record_decision(
        self,
        Decision decision not None,
        token not None,
        action not None,
        resource not None,
        arguments not None=b"",
        *,
        str source not None="",
        str audience=None,
        int64_t now_ms=-1,
        bint token_only=False,
    ):
        """Record a decision that its check did not record: one of ``refuse``, or a delayed one.

        The parts are those of ``check``, or of ``_check``. Without a decision queue only the counters change. A full
        queue raises nothing.
        """
        cdef CheckInput input
        cdef CheckOutcome outcome
        cdef Prepared prepared
        cdef DecisionQueue queue = self.decision_queue
        if self.counters is not None:
            self.counters.count_outcome(&decision.outcome)
        if queue is None:
            return
        input_init(&input)
        if not PyBytes_CheckExact(token) or text_is_text(token):
            prepared = self._prepare_input(token)
            token = token if prepared.data is None else prepared.data
        references = [
            _slice_or_empty(token, &input.token),
            _slice_or_empty(action, &input.action),
            _slice_or_empty(resource, &input.resource),
        ]
        references.append(json_slice(arguments, &input.arguments))
        references.append(_slice_or_empty(source, &input.source))
        references.append(_slice_or_empty(self.audience if audience is None else audience, &input.audience))
        input.now_ms = max(now_ms, 0)
        input.token_only = token_only
        outcome = decision.outcome
        outcome.argument = NULL
        if decision._argument is not None:
            text = decision._argument.encode()
            set_argument(&outcome, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        queue.put(&input, &outcome, decision.chain, <bytes_t> PyBytes_AS_STRING(decision.prefix), decision.number, False)
        outcome_free(&outcome)

    def record_batch_item(self, Batch batch not None, Py_ssize_t i, *, bint watched=False):
        """Record one decision of a batch that was judged with ``record=False``.

        ``watched``: it withdraws an allow. Raises IndexError for an index outside the batch.
        """
        if not 0 <= i < batch.count:
            raise IndexError("no such decision")
        self.record_item(batch, &batch.items[i], watched)

    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        """Judge a batch and count its time."""
        cdef CheckCounters counters = self.counters
        cdef int64_t started
        if counters is None:
            return self.judge_batch(batch, first, end, now_ms)
        started = counters.begin()
        self.judge_batch(batch, first, end, now_ms)
        counters.add_time(started, end - first)
        return 0

    cdef void record_item(self, Batch batch, Item *item, bint watched) noexcept:
        """Record an item's outcome when it is answered."""
        cdef DecisionQueue queue = self.decision_queue
        if self.counters is not None and not watched:
            self.counters.count_outcome(&item.outcome)
        if queue is None:
            return
        queue.put(
            &item.input,
            &item.outcome,
            batch.chain_of(item),
            <bytes_t> PyBytes_AS_STRING(batch.prefix),
            batch.number + (item - batch.items),
            watched,
        )

    cdef Prepared _prepare_input(self, object token):
        """Return a handle for a token in any form."""
        cdef Prepared out
        if type(token) is Prepared:
            if (<Prepared> token).checker is self or (<Prepared> token).reason:
                return token
            token = (<Prepared> token).data
        out = Prepared.__new__(Prepared)
        if isinstance(token, bytes) and (self._present is None or not text_is_text(token)):
            out.data = bytes(token)
            return out
        if self._present is None:
            raise TypeError(f"bytes expected, got {type(token).__name__}")
        presented = self._present(token)
        if isinstance(presented, bytes):
            out.data = presented
        else:
            out.reason = presented
        return out


cdef object _slice_or_empty(object text, TextSlice *out):
    """Point at a text or bytes; leave the slice empty for other objects."""
    return slice_of(text, out) if isinstance(text, (bytes, str)) else None
