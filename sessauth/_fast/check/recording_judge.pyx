"""What callers give in a token's place, and notes of what was decided about it.

Every decision that is answered is noted once, by the process that made it. The paths of a check note what they
answer themselves; what another process decides, or is answered later, goes through here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.argument_forms cimport json_part
from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, asked_init, finding_free, part_of, set_argument
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.batch cimport Batch, Item
from sessauth._fast.check.batch_judge cimport BatchRunner
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.recording_judge cimport text_is_text
from sessauth._fast.record.counters cimport CheckCounters
from sessauth._fast.record.queue cimport DecisionQueue

__all__ = ["RecordingRunner", "Prepared"]


@cython.final
cdef class Prepared:
    """A token that is held across calls: looked up once, judged anew each time, by the checker that made it."""


cdef class RecordingRunner(BatchRunner):
    """A judge that tells its tap, and its tally, what it decided."""

    def note(
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
    ):
        """Note a decision that was not noted when it was made: one of ``refuse``, or one held back.

        The parts are those of ``check``. Nothing is done without a tap, and nothing goes wrong with one.
        """
        cdef CheckInput asked
        cdef CheckOutcome found
        cdef Prepared prepared
        cdef DecisionQueue tap = self.tap
        if self.tally is not None:
            self.tally.note(&decision.found)
        if tap is None:
            return
        asked_init(&asked)
        if not PyBytes_CheckExact(token) or text_is_text(token):
            prepared = self._taken(token)
            token = token if prepared.data is None else prepared.data
        held = [_point(token, &asked.token), _point(action, &asked.action), _point(resource, &asked.resource)]
        held.append(json_part(arguments, &asked.arguments))
        held.append(_point(source, &asked.source))
        held.append(_point(self.audience if audience is None else audience, &asked.audience))
        asked.now_ms = max(now_ms, 0)
        found = decision.found
        found.argument = NULL
        if decision._argument is not None:
            text = decision._argument.encode()
            set_argument(&found, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        tap.note(&asked, &found, decision.chain, <bytes_t> PyBytes_AS_STRING(decision.prefix), decision.number, False)
        finding_free(&found)

    def note_batch_item(self, Batch batch not None, Py_ssize_t i, *, bint watched=False):
        """Note one decision of a batch that was judged with ``noted=False``.

        ``watched`` says that it takes back an allow. Raises IndexError for one that is not there.
        """
        if not 0 <= i < batch.count:
            raise IndexError("no such decision")
        self.note_item(batch, &batch.items[i], watched)

    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        """As judge_batch, and the tally is told how long it took."""
        cdef CheckCounters tally = self.tally
        cdef int64_t began
        if tally is None:
            return self.judge_batch(batch, first, end, now_ms)
        began = tally.begin()
        self.judge_batch(batch, first, end, now_ms)
        tally.lasted(began, end - first)
        return 0

    cdef void note_item(self, Batch batch, Item *item, bint watched) noexcept:
        """Note what an item came to, once it is answered."""
        cdef DecisionQueue tap = self.tap
        if self.tally is not None and not watched:
            self.tally.note(&item.found)
        if tap is None:
            return
        tap.note(
            &item.asked,
            &item.found,
            batch.chain_of(item),
            <bytes_t> PyBytes_AS_STRING(batch.prefix),
            batch.number + (item - batch.items),
            watched,
        )

    cdef Prepared _taken(self, object token):
        """What a caller gave in place of a token's bytes."""
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


cdef object _point(object text, TextSlice *out):
    """As part_of; at nothing for what is neither text nor bytes."""
    return part_of(text, out) if isinstance(text, (bytes, str)) else None
