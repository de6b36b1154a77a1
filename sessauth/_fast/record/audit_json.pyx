"""Decision records as JSON lines of the audit stream (docs/audit.md).

Records are selected and their chains marked with the GIL. The text is written without it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from sessauth._fast._check cimport (
    LEVEL_CEILING,
    LEVEL_NONE,
    RECORD_ALLOWED,
    RECORD_CLAIMS_SESSION,
    RECORD_SIGNATURE_VALID,
    RECORD_TOKEN_ONLY,
    RECORD_WATCHED,
    TEXT_FACTOR,
    Chain,
    DecisionRecord,
    RecordHead,
    RecordParts,
    begin_output,
    blake2b_16,
    end_output,
    new_mark,
    put_base64,
    put_hex,
    put_json_number,
    put_plain,
    put_text,
    record_id,
    record_parts,
    siphash,
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
