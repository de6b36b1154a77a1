"""A client's side of a check: encoder of its request and decoder of decisions, without protobuf objects.

Both are for plain messages. For any other they return None, and the caller uses protobuf's own runtime, which handles
errors, merged and unknown fields, and approvals.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject_GenericSetAttr
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from sessauth._fast._check cimport (
    ALLOWED,
    MAX_PEERS,
    MAX_PERMIT_MS,
    MAX_RETRY_ID_BYTES,
    WIRE_BYTES,
    WIRE_VARINT,
    TextSlice,
    WireReader,
    bytes_t,
    read_bytes,
    read_tag,
    read_varint,
    slice_of,
    unzigzag,
    utf8_valid,
)

cdef enum:
    # Numbers in a varint's field that are neither flags, 64-bit numbers nor enums are 32 bits.
    MAX_ENUM = 0x7FFFFFFF
    # The fields of a CheckItem up to `source` are all bytes or text.
    LEADING_FIELDS = 7

cdef uint64_t MAX_UINT32 = 0xFFFFFFFF
cdef bytes NOTHING = b""

# A Position of a Decision.
cdef struct DecisionPosition:
    bint stated
    uint64_t level
    int64_t index
    int64_t scope
    int64_t clause
    TextSlice argument


cdef inline size_t _varint_size(uint64_t value) noexcept nogil:
    cdef size_t n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n


cdef inline size_t _size(size_t n) noexcept nogil:
    """Return the size of a field of ``n`` bytes."""
    return 1 + _varint_size(n) + n


cdef inline unsigned char *_put_varint(unsigned char *out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[0] = <unsigned char> (value | 0x80)
        out += 1
        value >>= 7
    out[0] = <unsigned char> value
    return out + 1


cdef inline unsigned char *_put_number(unsigned char *out, int number, uint64_t value) noexcept nogil:
    if not value:
        return out
    out[0] = <unsigned char> (number << 3)
    return _put_varint(out + 1, value)


cdef inline unsigned char *_put_head(unsigned char *out, int number, size_t n) noexcept nogil:
    out[0] = <unsigned char> (number << 3 | WIRE_BYTES)
    return _put_varint(out + 1, n)


cdef inline unsigned char *_put(unsigned char *out, int number, const TextSlice *text) noexcept nogil:
    out = _put_head(out, number, text.n)
    memcpy(out, text.p, text.n)
    return out + text.n


cdef inline unsigned char *_put_stated(unsigned char *out, int number, const TextSlice *text) noexcept nogil:
    return _put(out, number, text) if text.n else out


cdef inline bint _set_bytes(object value, TextSlice *out):
    if not PyBytes_CheckExact(value):
        return False
    out.p, out.n = <bytes_t> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    return True


cdef bint _bytes_or_text(object value, TextSlice *out, list owners) except -1:
    """Point at bytes, or at a str as UTF-8 in which lone surrogates are encoded too."""
    if _set_bytes(value, out):
        return True
    return type(value) is str and _set_text(value, out, owners)


cdef bint _utf8(object value, TextSlice *out, list owners) except -1:
    return type(value) is str and _set_text(value, out, owners) and utf8_valid(out.p, out.n)


cdef bint _set_text(object value, TextSlice *out, list owners) except -1:
    owner = slice_of(value, out)
    if owner is not None:
        owners.append(owner)
    return True


def check_request(item, bytes token not None, audience, at_least_revision):
    """Return the bytes of the CheckRequest for a ``CheckItem`` whose token is given.

    Returns None if a value is not of the exact type or beyond its limit, if a text has a lone surrogate, for more than
    16 identities, and with approvals.
    """
    cdef TextSlice leading[LEADING_FIELDS]
    cdef TextSlice peers[MAX_PEERS]
    cdef TextSlice proof
    cdef TextSlice retry_id
    cdef TextSlice name
    cdef list owners = []
    action, resource, arguments, tool = item.action, item.resource, item.arguments, item.tool
    session, source, peer, item_proof = item.session, item.source, item.peer, item.proof
    approvals, permit_ms, item_retry_id = item.approvals, item.permit_ms, item.retry_id
    cdef bint token_only = item.token_only is True
    cdef uint64_t revision
    cdef uint64_t permit
    cdef size_t size = 0
    cdef Py_ssize_t peer_count
    cdef Py_ssize_t i
    if type(approvals) is not tuple or approvals or (type(peer) is not tuple and type(peer) is not list):
        return None
    if type(item.token_only) is not bool:
        return None
    if type(permit_ms) is not int or not 0 <= permit_ms <= MAX_PERMIT_MS:
        return None
    if type(at_least_revision) is not int or not 0 <= at_least_revision <= 0xFFFFFFFFFFFFFFFF:
        return None
    revision, permit, peer_count = at_least_revision, permit_ms, len(peer)
    if peer_count > MAX_PEERS:
        return None
    _set_bytes(token, &leading[0])
    if not (
        _bytes_or_text(action, &leading[1], owners)
        and _bytes_or_text(resource, &leading[2], owners)
        and _set_bytes(arguments, &leading[3])
        and _set_bytes(tool, &leading[4])
        and _set_bytes(session, &leading[5])
        and _utf8(source, &leading[6], owners)
        and _bytes_or_text(item_proof, &proof, owners)
        and _set_bytes(item_retry_id, &retry_id)
        and retry_id.n <= MAX_RETRY_ID_BYTES
        and _utf8(audience, &name, owners)
    ):
        return None
    for i in range(LEADING_FIELDS):
        if leading[i].n:
            size += _size(leading[i].n)
    for i in range(peer_count):
        if not _utf8(peer[i], &peers[i], owners):
            return None
        size += _size(peers[i].n)
    size += (_size(proof.n) if proof.n else 0) + (_size(retry_id.n) if retry_id.n else 0)
    size += 1 + _varint_size(permit) if permit else 0
    size += 2 if token_only else 0
    cdef size_t total = _size(size) + (_size(name.n) if name.n else 0) + (1 + _varint_size(revision) if revision else 0)
    cdef bytes request = PyBytes_FromStringAndSize(NULL, total)
    cdef unsigned char *out = _put_head(<unsigned char *> PyBytes_AS_STRING(request), 1, size)
    for i in range(LEADING_FIELDS):
        out = _put_stated(out, i + 1, &leading[i])
    for i in range(peer_count):
        out = _put(out, 8, &peers[i])
    out = _put_stated(out, 10, &proof)
    out = _put_stated(out, 12, &retry_id)
    out = _put_number(out, 13, permit)
    out = _put_number(out, 14, token_only)
    out = _put_stated(out, 2, &name)
    _put_number(out, 3, revision)
    return request


@cython.final
cdef class DecisionReader:
    """Decoder of responses with decisions.

    Makes objects of ``kind``, whose fields are those of ``RemoteDecision``. ``reasons``, ``stages`` and ``levels`` have
    the enum members by number, and under 0 the one for unknown numbers. Reads responses whose fields are known, in order,
    and stated once.
    """

    cdef object kind
    cdef object new
    cdef dict reasons
    cdef dict stages
    cdef dict levels

    def __cinit__(self, kind, dict reasons not None, dict stages not None, dict levels not None):
        self.kind, self.new = kind, kind.__new__
        self.reasons, self.stages, self.levels = reasons, stages, levels

    def check(self, bytes data not None):
        """Return the decision of a CheckResponse or CommitResponse; None for bytes that protobuf must read."""
        cdef WireReader reader
        cdef WireReader message
        _begin(&reader, data)
        if not _open_message(&reader, &message) or reader.p != reader.end:
            return None
        return self._decision(&message)

    def batch(self, bytes data not None):
        """Return the decisions of a CheckBatchResponse; None for bytes that protobuf must read."""
        cdef WireReader reader
        cdef WireReader message
        cdef list decisions = []
        _begin(&reader, data)
        while reader.p < reader.end:
            decision = self._decision(&message) if _open_message(&reader, &message) else None
            if decision is None:
                return None
            decisions.append(decision)
        return decisions

    cdef object _decision(self, WireReader *reader):
        cdef DecisionPosition failed
        cdef DecisionPosition matched
        # By field: numbers, and bytes or texts.
        cdef uint64_t numbers[16]
        cdef WireReader texts[16]
        cdef WireReader part
        cdef uint32_t number, wire
        cdef uint32_t last = 0
        cdef list block_ids = None
        memset(numbers, 0, sizeof(numbers))
        memset(texts, 0, sizeof(texts))
        memset(&failed, 0, sizeof(DecisionPosition))
        memset(&matched, 0, sizeof(DecisionPosition))
        while reader.p < reader.end:
            if not read_tag(reader, &number, &wire) or number > 15 or number <= last and number != 8 or number < last:
                return None
            last = number
            if number < 4 or number == 7 or 9 <= number <= 11 or number == 15:
                if wire != WIRE_VARINT or not read_varint(reader, &numbers[number]):
                    return None
            elif wire != WIRE_BYTES or not read_bytes(reader, &part):
                return None
            elif number == 8:
                if block_ids is None:
                    block_ids = []
                block_ids.append(_part(&part))
            elif number < 6:
                if not _read_position(&part, &failed if number == 4 else &matched):
                    return None
            elif number == 13 and not utf8_valid(part.p, part.end - part.p):
                return None
            else:
                texts[number] = part
        if numbers[1] > 1 or numbers[2] > MAX_ENUM or numbers[3] > MAX_ENUM:
            return None
        decision = self.new(self.kind)
        reason = self.reasons.get(numbers[2])
        allowed = numbers[1] == 1 and numbers[2] == ALLOWED and reason is not None
        _set_attribute(decision, "allowed", allowed)
        _set_attribute(decision, "reason", self.reasons[0] if reason is None else reason)
        _set_attribute(decision, "stage", _member(self.stages, numbers[3]))
        _set_attribute(decision, "level", _member(self.levels, failed.level))
        _set_attribute(decision, "index", failed.index if failed.stated else -1)
        _set_attribute(decision, "scope", failed.scope if failed.stated else -1)
        _set_attribute(decision, "clause", failed.clause if failed.stated else -1)
        text = failed.argument.p[:failed.argument.n].decode("utf-8") if failed.argument.n else ""
        _set_attribute(decision, "argument", text)
        _set_attribute(decision, "matched_index", matched.index if matched.stated else -1)
        _set_attribute(decision, "matched_scope", matched.scope if matched.stated else -1)
        _set_attribute(decision, "session_id", _part(&texts[6]))
        _set_attribute(decision, "epoch", numbers[7])
        _set_attribute(decision, "block_ids", () if block_ids is None else tuple(block_ids))
        _set_attribute(decision, "revision", numbers[9])
        _set_attribute(decision, "view_age_ms", numbers[10])
        _set_attribute(decision, "expires_at_ms", numbers[11])
        _set_attribute(decision, "decision_id", _part(&texts[12]))
        _set_attribute(decision, "explanation", _part(&texts[13]).decode("utf-8") if texts[13].p < texts[13].end else "")
        _set_attribute(decision, "permit", _part(&texts[14]))
        _set_attribute(decision, "permit_expires_at_ms", numbers[15])
        _set_attribute(decision, "approval", None)
        return decision


cdef inline int _set_attribute(object decision, str name, object value) except -1:
    """Set a field of a frozen object, as its own constructor does."""
    return PyObject_GenericSetAttr(decision, name, value)


cdef inline void _begin(WireReader *reader, bytes data) noexcept:
    reader.p = <bytes_t> PyBytes_AS_STRING(data)
    reader.end = reader.p + PyBytes_GET_SIZE(data)


cdef inline bint _open_message(WireReader *reader, WireReader *message) noexcept nogil:
    """Read the head of the message in field 1."""
    cdef uint32_t number, wire
    return read_tag(reader, &number, &wire) and number == 1 and wire == WIRE_BYTES and read_bytes(reader, message)


cdef inline object _member(dict members, uint64_t number):
    member = members.get(number)
    return members[0] if member is None else member


cdef inline bytes _part(const WireReader *part):
    if part.p == part.end:
        return NOTHING
    return PyBytes_FromStringAndSize(<const char *> part.p, part.end - part.p)


cdef bint _read_position(WireReader *reader, DecisionPosition *out) noexcept nogil:
    cdef WireReader text
    cdef uint64_t value
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    out.stated = True
    while reader.p < reader.end:
        if not read_tag(reader, &number, &wire) or number <= last or number > 5:
            return False
        last = number
        if number == 5:
            if wire != WIRE_BYTES or not read_bytes(reader, &text) or not utf8_valid(text.p, text.end - text.p):
                return False
            out.argument.p, out.argument.n = text.p, text.end - text.p
            continue
        if wire != WIRE_VARINT or not read_varint(reader, &value) or value > MAX_UINT32:
            return False
        if number == 1:
            if value > MAX_ENUM:
                return False
            out.level = value
        elif number == 2:
            out.index = unzigzag(value)
        elif number == 3:
            out.scope = unzigzag(value)
        else:
            out.clause = unzigzag(value)
    return True
