"""Decision records as JSON lines of the audit stream, and the hash chain of its lines (docs/audit.md).

With the GIL records are selected and their chains marked. The text is written without it. The parts are:

- the writer of records as bodies of lines;
- the calls of each token chain among some records, added up;
- the hash chain of the stream: bodies made into lines, and lines verified.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

from sessauth._fast._check cimport (
    LEVEL_CEILING, LEVEL_NONE, RECORD_ALLOWED, RECORD_CLAIMS_SESSION, RECORD_SIGNATURE_VALID,
    RECORD_TOKEN_ONLY, RECORD_WATCHED, TEXT_FACTOR, Chain, DecisionRecord, Hashing, RecordHead, RecordParts,
    begin_output, blake2b_16, end_output, hash_add, hash_begin, hash_end, new_mark, put_base64, put_hex,
    put_json_number, put_plain, put_text, record_id, record_parts, siphash,
)


cdef enum:
    WORDS = 128
    # A line without its texts and blocks: names, numbers, words and ids.
    PLAIN_RECORD_BYTES = 1024
    BLOCK_BYTES = 67
    CHAIN_BLOCK_BYTES = 96
    WITH_CHAIN = 1

# The sampling of allows is public: a decision's id shows if the decision had to be recorded.
cdef bytes SAMPLING_KEY = bytes(16)
cdef double ALL = 18446744073709551616.0

cdef struct AuditLine:
    const RecordHead *head
    uint8_t flags


@cython.final
cdef class DecisionText:
    """Writes records as bodies for an audit stream. For one thread at a time.

    ``arguments_key`` (32 bytes) keys the digest of arguments. All denials are written, and the share ``sample_allows``
    of allows, 0.0 to 1.0: those whose id has a SipHash-2-4, under a key of zeros, below that share of 2**64.
    ``reasons`` and ``stages`` map numbers to words.
    """

    cdef unsigned char _key[32]
    cdef readonly double sample_allows
    cdef bint _all
    cdef uint64_t _below
    cdef uint32_t _mark
    cdef dict _held
    cdef const char *_reasons[WORDS]
    cdef const char *_stages[WORDS]
    cdef bytes _share
    cdef const char *_share_text

    def __cinit__(
        self, bytes arguments_key not None, reasons not None, stages not None, *, double sample_allows=1.0
    ):
        if PyBytes_GET_SIZE(arguments_key) != 32:
            raise ValueError("an arguments key has 32 bytes")
        if not 0.0 <= sample_allows <= 1.0:
            raise ValueError("sample_allows: must be 0.0 to 1.0")
        memcpy(self._key, PyBytes_AS_STRING(arguments_key), 32)
        self.sample_allows = sample_allows
        self._all = sample_allows >= 1.0
        self._below = 0 if self._all else <uint64_t> (sample_allows * ALL)
        self._share = (b"1" if self._all else repr(sample_allows).encode("ascii"))
        self._share_text = PyBytes_AS_STRING(self._share)
        self._mark = new_mark()
        self._held = {}
        self._take_words(self._reasons, reasons)
        self._take_words(self._stages, stages)

    cdef int _take_words(self, const char **table, words) except -1:
        cdef bytes unknown = self._held.setdefault("UNSPECIFIED", b"UNSPECIFIED")
        cdef bytes word
        cdef int i
        for i in range(WORDS):
            table[i] = PyBytes_AS_STRING(unknown)
        for number, name in words.items():
            word = self._held.setdefault(name, (<str?> name).encode("ascii"))
            if 0 <= number < WORDS:
                table[<int> number] = PyBytes_AS_STRING(word)
        return 0

    def forget_chains(self):
        """Write the blocks of every chain again before its next decision, for a new stream."""
        self._mark = new_mark()

    def write(self, records not None):
        """Return the bodies of records, and the number of decisions among them.

        A record of a chain's blocks precedes its first decision. Raises TypeError for other objects than records.
        """
        cdef Py_ssize_t most = len(records)
        cdef AuditLine *lines = <AuditLine *> malloc(max(most, 1) * sizeof(AuditLine))
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t i
        cdef size_t room = 0
        cdef DecisionRecord record
        cdef PyObject *memory = NULL
        cdef char *out
        if lines == NULL:
            raise MemoryError
        try:
            for item in records:
                if count == most:
                    break
                record = <DecisionRecord?> item
                if self._choose(record.head, &lines[count]):
                    room += _most(&lines[count])
                    count += 1
            if count == 0:
                return b"", 0
            out = begin_output(&memory, room)
            with nogil:
                for i in range(count):
                    if lines[i].flags & WITH_CHAIN:
                        out = _blocks(out, lines[i].head, <Chain> lines[i].head.chain)
                    out = self._decision(out, lines[i].head)
            return end_output(memory, out), count
        except BaseException:
            # Marked chains are not written, so the marks are reset.
            self.forget_chains()
            raise
        finally:
            free(lines)

    cdef bint _choose(self, const RecordHead *head, AuditLine *line) except -1:
        """Return True if a record is selected, after computing its digests and ids."""
        cdef unsigned char decision_id[16]
        cdef Chain chain
        if head.flags & RECORD_ALLOWED and not self._all:
            record_id(head, decision_id)
            if siphash(decision_id, 16, <const unsigned char *> PyBytes_AS_STRING(SAMPLING_KEY)) >= self._below:
                return False
        line.head = head
        line.flags = 0
        if head.chain != NULL:
            chain = <Chain> head.chain
            if not chain.compute_ids() or chain.compute_digest() == NULL:
                raise MemoryError
            if chain.written_mark != self._mark:
                chain.written_mark = self._mark
                line.flags = WITH_CHAIN
        return True

    cdef char *_decision(self, char *out, const RecordHead *head) noexcept nogil:
        cdef RecordParts parts
        cdef unsigned char digest[16]
        cdef bint signature_valid = head.flags & RECORD_SIGNATURE_VALID != 0
        record_parts(head, &parts)
        out = put_json_number(put_plain(out, '{"kind":"decision","at_ms":'), <int64_t> head.at_ms)
        record_id(head, digest)
        out = put_hex(put_plain(out, ',"id":"'), digest, 16)
        if head.flags & RECORD_ALLOWED:
            out = put_plain(out, '","allowed":true,"reason":"')
        else:
            out = put_plain(out, '","allowed":false,"reason":"')
        out = put_plain(out, self._reasons[head.reason if 0 <= head.reason < WORDS else 0])
        out = put_plain(put_plain(out, '","stage":"'), self._stages[head.stage if 0 <= head.stage < WORDS else 0])
        out = put_plain(out, '"')
        if signature_valid:
            out = _session(out, head, <Chain> head.chain)
        elif head.flags & RECORD_CLAIMS_SESSION:
            out = put_plain(put_hex(put_plain(out, ',"claimed":"'), parts.claimed, 16), '"')
        out = put_json_number(put_plain(out, ',"revision":'), <int64_t> head.revision)
        if signature_valid:
            out = _ids(out, <Chain> head.chain)
        out = put_text(put_plain(out, ',"action":'), &parts.action)
        out = put_text(put_plain(out, ',"resource":'), &parts.resource)
        out = put_plain(out, ',"arguments":"')
        if parts.arguments.n:
            blake2b_16(digest, self._key, parts.arguments.p, parts.arguments.n)
            out = put_hex(out, digest, 16)
        out = put_text(put_plain(out, '","audience":'), &parts.audience)
        out = put_text(put_plain(out, ',"source":'), &parts.source)
        out = _place(out, head, &parts)
        out = put_plain(out, ',"token":"')
        if signature_valid:
            out = _token(out, <Chain> head.chain)
        else:
            out = put_hex(out, parts.digest, 16)
        out = put_plain(out, '"')
        if head.flags & RECORD_WATCHED:
            out = put_plain(out, ',"watched":true')
        if head.flags & RECORD_TOKEN_ONLY:
            out = put_plain(out, ',"token_only":true')
        out = put_plain(out, ',"sampled":')
        if head.flags & RECORD_ALLOWED:
            out = put_plain(out, self._share_text)
        else:
            out = put_plain(out, '1')
        return put_plain(out, '}\n')


cdef size_t _most(const AuditLine *line) noexcept nogil:
    """Return an upper bound of the bytes of a record and its chain."""
    cdef const RecordHead *head = line.head
    cdef size_t texts = head.action_n + head.resource_n + head.source_n + head.audience_n + head.argument_n
    cdef size_t most = PLAIN_RECORD_BYTES + TEXT_FACTOR * texts
    if head.chain != NULL:
        most += _chain_most(<Chain> head.chain, line.flags & WITH_CHAIN != 0)
    return most


cdef size_t _chain_most(Chain chain, bint with_blocks) noexcept nogil:
    cdef size_t most = chain.block_count * BLOCK_BYTES
    return most + chain.block_count * CHAIN_BLOCK_BYTES + 2 * chain.length if with_blocks else most


cdef char *_session(char *out, const RecordHead *head, Chain chain) noexcept nogil:
    out = put_hex(put_plain(out, ',"session":"'), chain.base + chain.root.session_id, 16)
    return put_json_number(put_plain(out, '","epoch":'), <int64_t> head.epoch)


cdef char *_ids(char *out, Chain chain) noexcept nogil:
    cdef int i
    out = put_plain(out, ',"blocks":[')
    for i in range(chain.block_count):
        out = put_plain(out, ',"') if i else put_plain(out, '"')
        out = put_plain(put_hex(out, chain.ids + 32 * i, 32), '"')
    return put_plain(out, ']')


cdef char *_token(char *out, Chain chain) noexcept nogil:
    return put_hex(out, chain.digest, 16)


cdef char *_place(char *out, const RecordHead *head, const RecordParts *parts) noexcept nogil:
    """Write the matched scope and the position of a refusal."""
    if head.matched_index >= 0:
        out = put_json_number(put_plain(out, ',"matched":['), head.matched_index)
        out = put_plain(put_json_number(put_plain(out, ','), head.matched_scope), '],"at":')
    else:
        out = put_plain(out, ',"matched":null,"at":')
    if head.level == LEVEL_NONE and parts.argument.n == 0:
        return put_plain(out, 'null')
    if head.level == LEVEL_NONE:
        out = put_plain(out, '{"level":"NONE","index":')
    elif head.level == LEVEL_CEILING:
        out = put_plain(out, '{"level":"CEILING","index":')
    else:
        out = put_plain(out, '{"level":"BLOCK","index":')
    out = put_json_number(put_plain(put_json_number(out, head.index), ',"scope":'), head.scope)
    out = put_json_number(put_plain(out, ',"clause":'), head.clause)
    return put_plain(put_text(put_plain(out, ',"argument":'), &parts.argument), '}')


cdef char *_blocks(char *out, const RecordHead *head, Chain chain) noexcept nogil:
    """Write the record of a chain's payloads, without signatures: enough for a replay, useless as a token."""
    cdef int i
    out = put_json_number(put_plain(out, '{"kind":"chain","at_ms":'), <int64_t> head.at_ms)
    out = put_plain(out, ',"blocks":[')
    for i in range(chain.block_count):
        out = put_plain(out, ',{"id":"') if i else put_plain(out, '{"id":"')
        out = put_plain(put_hex(out, chain.ids + 32 * i, 32), '","payload":"')
        out = put_base64(out, chain.base + chain.blocks[i].payload.at, chain.blocks[i].payload.n)
        out = put_plain(out, '"}')
    return put_plain(out, ']}\n')


# Decision records added up by chain.

@cython.final
@cython.no_gc
cdef class ChainCalls:
    """The calls of one chain among some records: their number, and times in ms since 1970.

    ``record`` is one of them: that with the payloads, if there is one. A check of a token alone is a use of its blocks,
    but of no call: it is neither ``allowed`` nor ``denied``. ``last_allow_ms`` is 0 if no call was allowed.
    ``observed`` counts the calls that only observe mode allowed.
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


# The chain of an audit stream: each line carries a hash over itself and the line before.
#
# A line is a JSON object, ``{"n":7,"kind":"decision",…,"chain":"<64 hex digits>"}``. Its chain is BLAKE2b-256
# over a label, the chain of the previous line (zeros before the first), and the line's own bytes up to
# ``,"chain":"``, 76 bytes before the line's end (docs/audit.md). No function here parses the JSON.

cdef enum:
    # Including its zero byte.
    LABEL_BYTES = 24
    CHAIN_BYTES = 32
    # ,"chain":"<64>"} and the line feed.
    BEHIND_BYTES = 10 + 64 + 2 + 1
    # {"n": and a comma around at most 19 digits.
    NUMBER_BYTES = 6 + 19
    HEAD_BYTES = 9

cdef const char *LABEL = "sessauth/audit-chain/v1"
cdef const char *BODY_HEAD = '{"kind":"'
cdef const char *NUMBER = '{"n":'
cdef const char *KIND = ',"kind":"'
cdef const char *CHAIN = ',"chain":"'
cdef const char *AT = ',"at_ms":'
cdef const char *DIGITS = "0123456789abcdef"
# A larger time is invalid.
cdef int64_t MAX_AT = 0x1FFFFFFFFFFFFF

cdef struct ChainMark:
    int64_t n
    Py_ssize_t start
    Py_ssize_t end

# Lines that a walk collects: those of other kinds, or those whose time is far before an earlier one.
cdef struct ChainMarks:
    ChainMark *marks
    Py_ssize_t count
    Py_ssize_t room


cdef void _link(const char *line, size_t n, unsigned char *chain) noexcept nogil:
    """Replace the previous line's chain by that of a line, given without its chain field."""
    cdef Hashing hashing
    hash_begin(&hashing)
    hash_add(&hashing, <const unsigned char *> LABEL, LABEL_BYTES)
    hash_add(&hashing, chain, CHAIN_BYTES)
    hash_add(&hashing, <const unsigned char *> line, n)
    hash_end(&hashing, chain)


cdef void _to_hex(const unsigned char *chain, char *out) noexcept nogil:
    cdef int i
    for i in range(CHAIN_BYTES):
        out[2 * i] = DIGITS[chain[i] >> 4]
        out[2 * i + 1] = DIGITS[chain[i] & 15]


cdef int _write_number(int64_t n, char *out) noexcept nogil:
    """Write a number in decimal. Return the number of digits."""
    cdef char digits[20]
    cdef int count = 0
    cdef int i
    while True:
        digits[count] = <char> (48 + n % 10)
        count += 1
        n = n // 10
        if n == 0:
            break
    for i in range(count):
        out[i] = digits[count - 1 - i]
    return count


cdef bint _add(ChainMarks *marks, int64_t n, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    cdef void *grown
    if marks.count == marks.room:
        marks.room = 2 * marks.room + 16
        grown = realloc(marks.marks, marks.room * sizeof(ChainMark))
        if grown == NULL:
            return False
        marks.marks = <ChainMark *> grown
    marks.marks[marks.count] = ChainMark(n, start, end)
    marks.count += 1
    return True


cdef list _listed(ChainMarks *marks):
    cdef Py_ssize_t i
    return [(marks.marks[i].n, marks.marks[i].start, marks.marks[i].end) for i in range(marks.count)]


cdef Py_ssize_t _count(const char *p, Py_ssize_t n) noexcept nogil:
    """Return the number of bodies, or -1 - index of the first invalid one."""
    cdef const char *end = p + n
    cdef const char *stop
    cdef Py_ssize_t count = 0
    while p < end:
        stop = <const char *> memchr(p, 10, end - p)
        if stop == NULL or stop - p < HEAD_BYTES + 2 or memcmp(p, BODY_HEAD, HEAD_BYTES) != 0 or (stop - 1)[0] != 125:
            return -1 - count
        count += 1
        p = stop + 1
    return count


cdef char *_seal(const char *p, const char *end, int64_t n, unsigned char *chain, char *out) noexcept nogil:
    """Write the lines of validated bodies. Return the end."""
    cdef const char *stop
    cdef char *line
    while p < end:
        stop = <const char *> memchr(p, 10, end - p)
        line = out
        memcpy(out, NUMBER, 5)
        out += 5
        out += _write_number(n, out)
        out[0] = 44
        # The body without its braces.
        memcpy(out + 1, p + 1, stop - p - 2)
        out += stop - p - 1
        _link(line, out - line, chain)
        memcpy(out, CHAIN, 10)
        _to_hex(chain, out + 10)
        memcpy(out + 74, '"}\n', 3)
        out += BEHIND_BYTES
        p = stop + 1
        n += 1
    return out


def seal(bytes bodies not None, long long first_n, bytes previous not None):
    """Convert bodies into lines of a stream.

    Args:
        bodies: JSON objects, ``{"kind":"…",…}`` and a line feed each. May be empty.
        first_n: the number of the first line.
        previous: the chain of the previous line, 32 bytes; zeros for number 0.

    Returns:
        The lines, the chain of the last one (32 bytes), and their number. Works without the GIL.

    Raises:
        ValueError: for a negative number, a chain of another length, or bodies of another form.
    """
    cdef unsigned char chain[CHAIN_BYTES]
    cdef const char *p = PyBytes_AS_STRING(bodies)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(bodies)
    cdef Py_ssize_t count
    cdef PyObject *memory = NULL
    cdef char *out
    cdef char *end
    _take(chain, first_n, previous)
    with nogil:
        count = _count(p, n)
    if count < 0:
        raise ValueError(f'body {-1 - count} is not {{"kind":"…",…}} and a line feed')
    if first_n > MAX_AT - count:
        raise ValueError("the number of a line is at most 2**53 - 1")
    # Without the line feed and the braces, which body and line share.
    out = begin_output(&memory, n + count * (NUMBER_BYTES + BEHIND_BYTES))
    with nogil:
        end = _seal(p, p + n, first_n, chain, out)
    return end_output(memory, end), PyBytes_FromStringAndSize(<char *> chain, CHAIN_BYTES), count


def link(bytes content not None, bytes previous not None):
    """Return the chain (32 bytes) of one line, given up to ``,"chain":"``, exclusive.

    Raises:
        ValueError: for a previous chain of another length than 32 bytes.
    """
    cdef unsigned char chain[CHAIN_BYTES]
    _take(chain, 0, previous)
    _link(PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content), chain)
    return PyBytes_FromStringAndSize(<char *> chain, CHAIN_BYTES)


cdef int _take(unsigned char *chain, long long first_n, bytes previous) except -1:
    if first_n < 0:
        raise ValueError("the number of a line is not negative")
    if PyBytes_GET_SIZE(previous) != CHAIN_BYTES:
        raise ValueError("a chain has 32 bytes")
    memcpy(chain, PyBytes_AS_STRING(previous), CHAIN_BYTES)
    return 0


@cython.final
cdef class _Walk:
    """A walk over lines: its position, and the lines it collected."""

    cdef unsigned char chain[CHAIN_BYTES]
    cdef int64_t n
    cdef Py_ssize_t at
    cdef int64_t latest
    cdef int64_t slack
    cdef bint no_memory
    cdef ChainMarks read
    cdef ChainMarks back

    def __dealloc__(self):
        free(self.read.marks)
        free(self.back.marks)

    cdef void run(self, const char *data, Py_ssize_t n) noexcept nogil:
        """Walk until a line is invalid or has no line feed."""
        cdef const char *end = data + n
        cdef const char *p
        cdef const char *stop
        while self.at < n:
            p = data + self.at
            stop = <const char *> memchr(p, 10, end - p)
            if stop == NULL or not self.step(p, stop + 1 - p) or self.no_memory:
                return

    cdef bint step(self, const char *line, Py_ssize_t n) noexcept nogil:
        """Verify one line, its line feed included. 0 if it is not the next one."""
        cdef char expected[NUMBER_BYTES + HEAD_BYTES]
        cdef unsigned char chain[CHAIN_BYTES]
        cdef char text[64]
        cdef const char *behind = line + n - BEHIND_BYTES
        cdef int head
        memcpy(expected, NUMBER, 5)
        head = 5 + _write_number(self.n, expected + 5)
        memcpy(expected + head, KIND, HEAD_BYTES)
        head += HEAD_BYTES
        if n < head + 1 + BEHIND_BYTES or memcmp(line, expected, head) != 0:
            return False
        if memcmp(behind, CHAIN, 10) != 0 or memcmp(behind + 74, '"}\n', 3) != 0:
            return False
        memcpy(chain, self.chain, CHAIN_BYTES)
        _link(line, behind - line, chain)
        _to_hex(chain, text)
        if memcmp(text, behind + 10, 64) != 0:
            return False
        memcpy(self.chain, chain, CHAIN_BYTES)
        self.inspect(line + head, behind, n)
        self.n += 1
        self.at += n
        return True

    cdef void inspect(self, const char *p, const char *end, Py_ssize_t n) noexcept nogil:
        """Collect a line of another kind, or with a time far before the latest."""
        cdef const char *stop = <const char *> memchr(p, 34, end - p)
        cdef Py_ssize_t kind = (end if stop == NULL else stop) - p
        cdef int64_t at = 0
        if not (
            (kind == 8 and memcmp(p, "decision", 8) == 0)
            or (kind == 6 and memcmp(p, "change", 6) == 0)
            or (kind == 5 and memcmp(p, "chain", 5) == 0)
        ):
            if not _add(&self.read, self.n, self.at, self.at + n):
                self.no_memory = True
        if stop == NULL or end - stop < 11 or memcmp(stop + 1, AT, 9) != 0:
            return
        stop += 10
        while stop < end and 48 <= stop[0] <= 57:
            at = at * 10 + stop[0] - 48
            stop += 1
            if at > MAX_AT:
                return
        if at + self.slack < self.latest:
            if not _add(&self.back, self.n, self.at, self.at + n):
                self.no_memory = True
            # Collect one line a clock step, not each line that follows it.
            self.latest = at
        elif at > self.latest:
            self.latest = at


def walk(
    bytes data not None, Py_ssize_t start, long long first_n, bytes previous not None,
    long long latest_ms, long long slack_ms
):
    """Verify the chain over lines, up to the first that is not the next one.

    Args:
        data: whole lines. Bytes before ``start`` were walked already.
        start: the offset of the first line.
        first_n: the number that it must have.
        previous: the chain of the previous line, 32 bytes.
        latest_ms: the latest time of earlier lines, in ms since 1970.
        slack_ms: the tolerance for a line's ``at_ms`` before the latest time.

    Returns:
        The number of valid lines; the offset of the first line that is invalid or has no line feed (the length of
        ``data``: none); the chain of the last valid line; the lines of other kinds than decision, change and chain,
        and the lines with an earlier time, each as ``(n, start, end)``; the latest time. Works without the GIL.

    Raises:
        ValueError: for a negative number or offset, or a chain of another length.
    """
    cdef _Walk walking = _Walk.__new__(_Walk)
    cdef const char *p = PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    _take(walking.chain, first_n, previous)
    if start < 0:
        raise ValueError("a place in the data is not negative")
    walking.n = first_n
    walking.at = start
    walking.latest = latest_ms
    walking.slack = slack_ms
    with nogil:
        walking.run(p, n)
    if walking.no_memory:
        raise MemoryError
    return (
        walking.n - first_n,
        walking.at,
        PyBytes_FromStringAndSize(<char *> walking.chain, CHAIN_BYTES),
        _listed(&walking.read),
        _listed(&walking.back),
        walking.latest,
    )
