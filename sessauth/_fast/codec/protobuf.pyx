"""The strict canonical subset of protobuf (docs/token-format.md, section 2), and the text forms (section 10).

The subset has two users. The token decoder walks bytes with the reader below and builds no Python object.
:func:`encode_message` and :func:`decode_message` convert records (sessions, keys, changes) from and to plain dicts by
the generated table ``schema.MESSAGES``.

A protobuf runtime accepts all bytes that this decoder accepts, with equal content, and encodes them to equal bytes.
The reverse is false on purpose: a general runtime accepts several encodings of one content.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject_GenericSetAttr
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from sessauth._fast.codec.schema import MESSAGES


class WireError(ValueError):
    """Bytes that are not canonical, or a value outside its field's range or type."""


# --- the reader ---------------------------------------------------------------------------------

cdef const unsigned char *after_varint(
    const unsigned char *p, const unsigned char *end, uint64_t *value
) noexcept nogil:
    cdef unsigned char byte
    cdef int shift = 0
    value[0] = 0
    while p < end and shift < 64:
        byte = p[0]
        p += 1
        if shift == 63 and byte > 1:
            return NULL
        value[0] |= (<uint64_t> (byte & 0x7F)) << shift
        if byte < 0x80:
            # With a last byte of zero the number has a shorter encoding.
            if byte == 0 and shift:
                return NULL
            return p
        shift += 7
    return NULL


cdef int64_t unzigzag(uint64_t value) noexcept nogil:
    return <int64_t> (value >> 1) ^ -<int64_t> (value & 1)


cdef bint utf8_valid(const unsigned char *p, size_t n) noexcept nogil:
    """Validate UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF."""
    cdef const unsigned char *end = p + n
    cdef unsigned char a, b
    cdef int more
    cdef uint64_t eight
    if n < 8:
        a = 0
        while p < end:
            a |= p[0]
            p += 1
        if a < 0x80:
            return 1
        p = end - n
    while p < end:
        while end - p >= 8:
            memcpy(&eight, p, 8)
            if eight & 0x8080808080808080ULL:
                break
            p += 8
        if p == end:
            return 1
        if n >= 8 and end - p < 8:
            # The last bytes, reread together with bytes before them.
            memcpy(&eight, end - 8, 8)
            if not eight & 0x8080808080808080ULL:
                return 1
        a = p[0]
        if a < 0x80:
            p += 1
            continue
        if a < 0xC2 or a > 0xF4:
            return 0
        more = 1 if a < 0xE0 else (2 if a < 0xF0 else 3)
        if end - p <= more:
            return 0
        b = p[1]
        if b & 0xC0 != 0x80:
            return 0
        if (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F) or (a == 0xF0 and b < 0x90) or (a == 0xF4 and b > 0x8F):
            return 0
        if more >= 2 and p[2] & 0xC0 != 0x80:
            return 0
        if more == 3 and p[3] & 0xC0 != 0x80:
            return 0
        p += more + 1
    return 1


# --- records ------------------------------------------------------------------------------------

cdef enum:
    UINT32 = 1
    UINT64 = 2
    SINT64 = 3
    BOOL = 4
    ENUM = 5
    STRING = 6
    BYTES = 7
    MESSAGE = 8

_KINDS = {
    "uint32": UINT32,
    "uint64": UINT64,
    "sint64": SINT64,
    "bool": BOOL,
    "enum": ENUM,
    "string": STRING,
    "bytes": BYTES,
    "message": MESSAGE,
}


cdef class _Field:
    cdef readonly uint32_t number
    cdef readonly str name
    cdef readonly int kind
    cdef readonly bint repeated
    cdef readonly bint in_oneof
    cdef readonly str message

    def __cinit__(self, row):
        self.number, self.name, kind, self.repeated, self.in_oneof, self.message = row
        self.kind = _KINDS[kind]


_MISSING = object()
cdef dict _FIELDS = {name: tuple(_Field(row) for row in rows) for name, rows in MESSAGES.items()}


def decode_message(str message not None, bytes data not None):
    """Return the fields of a message as a dict.

    Absent scalars have their default, absent messages and oneof members are None, repeated fields
    are lists. Raises WireError for bytes that are not canonical, and KeyError for a message that
    the schema does not have.
    """
    cdef WireReader reader
    reader.p = <const unsigned char *> PyBytes_AS_STRING(data)
    reader.end = reader.p + PyBytes_GET_SIZE(data)
    return _decode(message, &reader, 1)


cdef object _default(_Field field):
    if field.repeated:
        return []
    if field.in_oneof or field.kind == MESSAGE:
        return None
    if field.kind == STRING:
        return ""
    if field.kind == BYTES:
        return b""
    if field.kind == BOOL:
        return False
    return 0


cdef dict _decode(str message, WireReader *reader, int depth):
    cdef tuple fields = _FIELDS[message]
    cdef dict out = {}
    cdef _Field field
    cdef Py_ssize_t place = 0
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef bint oneof_taken = False
    if depth > MAX_NESTING:
        raise WireError(f"{message}: nested deeper than {MAX_NESTING}")
    for field in fields:
        out[field.name] = _default(field)
    while reader.p < reader.end:
        if not read_tag(reader, &number, &wire):
            raise WireError(f"{message}: tag is not canonical")
        while place < len(fields) and (<_Field> fields[place]).number < number:
            place += 1
        if place == len(fields) or (<_Field> fields[place]).number != number:
            raise WireError(f"{message}: field {number} is unknown or out of order")
        field = fields[place]
        if number == last and not field.repeated:
            raise WireError(f"{message}.{field.name}: given twice")
        last = number
        if field.in_oneof:
            if oneof_taken:
                raise WireError(f"{message}.{field.name}: a second member of the oneof")
            oneof_taken = True
        value = _decode_value(message, field, reader, wire, depth)
        if field.repeated:
            (<list> out[field.name]).append(value)
        else:
            if not field.in_oneof and field.kind != MESSAGE and not value:
                raise WireError(f"{message}.{field.name}: the default is not encoded")
            out[field.name] = value
    return out


cdef object _decode_value(str message, _Field field, WireReader *reader, uint32_t wire, int depth):
    cdef WireReader inner
    cdef uint64_t value
    if field.kind < STRING:
        if wire != WIRE_VARINT or not read_varint(reader, &value):
            raise WireError(f"{message}.{field.name}: varint expected in its shortest form")
        if field.kind == BOOL:
            if value > 1:
                raise WireError(f"{message}.{field.name}: not a bool")
            return value == 1
        if field.kind == SINT64:
            return unzigzag(value)
        if field.kind != UINT64 and value > (0x7FFFFFFFULL if field.kind == ENUM else 0xFFFFFFFFULL):
            raise WireError(f"{message}.{field.name}: does not fit 32 bits")
        return value
    if wire != WIRE_BYTES or not read_bytes(reader, &inner):
        raise WireError(f"{message}.{field.name}: length expected in its shortest form, within the message")
    if field.kind == MESSAGE:
        return _decode(field.message, &inner, depth + 1)
    data = PyBytes_FromStringAndSize(<const char *> inner.p, inner.end - inner.p)
    if field.kind == BYTES:
        return data
    if not utf8_valid(inner.p, inner.end - inner.p):
        raise WireError(f"{message}.{field.name}: not UTF-8")
    return (<bytes> data).decode("utf-8")


# --- records of Python ---------------------------------------------------------------------------

def new_record(type cls not None, dict values not None):
    """Return a record of a class, with a value for each of its slots. Raises KeyError if one is missing."""
    made = cls.__new__(cls)
    for name in cls.__slots__:
        # The classes are frozen, and refuse it to others.
        PyObject_GenericSetAttr(made, name, values[name])
    return made


def replaced(record not None, **changes):
    """Return a copy of a record with other values of some slots. Raises TypeError for a name that is none."""
    cls = type(record)
    made = cls.__new__(cls)
    for name in cls.__slots__:
        if name in changes:
            item = changes.pop(name)
        else:
            item = getattr(record, name)
        PyObject_GenericSetAttr(made, name, item)
    if changes:
        raise TypeError(f"{cls.__name__} has no field {min(changes)!r}")
    return made


# --- the writer ---------------------------------------------------------------------------------

cdef struct Output:
    # Encoded bytes that grow; zeros to begin with.
    unsigned char *data
    size_t n
    size_t capacity

cdef enum:
    OUTPUT_BYTES = 512
    MAX_VARINT = 10


cdef unsigned char *_output_reserve(Output *out, size_t n) except NULL:
    """Make space for n more bytes and return where they go."""
    cdef size_t capacity = out.capacity if out.capacity else OUTPUT_BYTES
    cdef unsigned char *data
    if out.capacity - out.n < n:
        while capacity - out.n < n:
            capacity *= 2
        data = <unsigned char *> realloc(out.data, capacity)
        if data == NULL:
            raise MemoryError
        out.data, out.capacity = data, capacity
    return out.data + out.n


cdef int _put_varint(Output *out, uint64_t value) except -1:
    cdef unsigned char *p = _output_reserve(out, MAX_VARINT)
    while value >= 0x80:
        p[0] = <unsigned char> (value & 0x7F | 0x80)
        p += 1
        value >>= 7
    p[0] = <unsigned char> value
    out.n = p + 1 - out.data
    return 0


cdef int _put_bytes(Output *out, const void *data, size_t n) except -1:
    memcpy(_output_reserve(out, n), data, n)
    out.n += n
    return 0


cdef int _put_length(Output *out, size_t start) except -1:
    """Put the length of the bytes from ``start`` on before them."""
    cdef size_t n = out.n - start
    cdef size_t more = 1
    cdef size_t rest = n >> 7
    while rest:
        more += 1
        rest >>= 7
    _output_reserve(out, more)
    memmove(out.data + start + more, out.data + start, n)
    out.n = start
    _put_varint(out, n)
    out.n += n
    return 0


def encode_message(str message not None, value not None):
    """Return the canonical encoding of a message.

    ``value`` is a mapping of its fields, a :class:`~sessauth._fast.codec.record.Record`, or bytes that are the
    message's canonical encoding already, which are taken unread; so are the messages inside. Missing and None fields
    are absent. Raises WireError for a value outside its field's range or type, or a name that the message does not
    have, and KeyError for a message that the schema does not have.
    """
    cdef Output out
    out.data, out.n, out.capacity = NULL, 0, 0
    try:
        _encode(&out, message, value, 1)
        return PyBytes_FromStringAndSize(<const char *> out.data, out.n)
    finally:
        free(out.data)


cdef int _encode(Output *out, str message, object value, int depth) except -1:
    cdef _Field field
    cdef dict known = None
    cdef tuple fields = _FIELDS[message]
    cdef Py_ssize_t taken = 0
    cdef bint oneof_taken = False
    cdef bint by_attribute = False
    if type(value) is bytes:
        _put_bytes(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        return 0
    if depth > MAX_NESTING:
        raise WireError(f"{message}: nested deeper than {MAX_NESTING}")
    if type(value) is not dict:
        by_attribute = getattr(type(value), "encodes_by_field", False)
        if not by_attribute:
            value = value.to_record() if hasattr(value, "to_record") else dict(value)
    if not by_attribute:
        known = <dict> value
    for field in fields:
        if by_attribute:
            item = getattr(value, field.name, None)
        else:
            item = known.get(field.name, _MISSING)
            if item is _MISSING:
                continue
            taken += 1
        if item is None:
            continue
        if field.repeated:
            for element in item:
                _encode_value(out, message, field, element, depth)
            continue
        if field.in_oneof:
            if oneof_taken:
                raise WireError(f"{message}.{field.name}: a second member of the oneof")
            oneof_taken = True
        elif field.kind == ENUM:
            # A class of numbers may have a truth of its own.
            if item == 0:
                continue
        elif field.kind != MESSAGE and not item:
            continue
        _encode_value(out, message, field, item, depth)
    if not by_attribute and taken != len(known):
        raise WireError(f"{message}: has no field {sorted(set(known) - {(<_Field> f).name for f in fields})[0]!r}")
    return 0


cdef int _encode_value(Output *out, str message, _Field field, object item, int depth) except -1:
    cdef int64_t signed
    cdef size_t start
    cdef const char *text
    cdef Py_ssize_t n
    if field.kind < STRING:
        _put_varint(out, (<uint64_t> field.number << 3) | WIRE_VARINT)
        if field.kind == BOOL:
            if item is not True and item is not False:
                raise WireError(f"{message}.{field.name}: bool expected, got {type(item).__name__}")
            return _put_varint(out, 1 if item else 0)
        if not isinstance(item, int) or isinstance(item, bool):
            raise WireError(f"{message}.{field.name}: int expected, got {type(item).__name__}")
        if field.kind == SINT64:
            if not -0x8000000000000000 <= item <= 0x7FFFFFFFFFFFFFFF:
                raise WireError(f"{message}.{field.name}: {item} does not fit 64 bits with sign")
            signed = item
            return _put_varint(out, (<uint64_t> signed << 1) ^ <uint64_t> (signed >> 63))
        if field.kind == UINT64:
            highest = 0xFFFFFFFFFFFFFFFF
        else:
            # A protobuf enum is a signed number of 32 bits.
            highest = 0x7FFFFFFF if field.kind == ENUM else 0xFFFFFFFF
        if not 0 <= item <= highest:
            raise WireError(f"{message}.{field.name}: {item} is out of range")
        return _put_varint(out, item)
    _put_varint(out, (<uint64_t> field.number << 3) | WIRE_BYTES)
    if field.kind == MESSAGE:
        start = out.n
        _encode(out, field.message, item, depth + 1)
        return _put_length(out, start)
    if field.kind == STRING:
        if not isinstance(item, str):
            raise WireError(f"{message}.{field.name}: str expected, got {type(item).__name__}")
        try:
            text = PyUnicode_AsUTF8AndSize(item, &n)
        except UnicodeEncodeError:
            raise WireError(f"{message}.{field.name}: not encodable as UTF-8") from None
    elif isinstance(item, bytes):
        text, n = PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item)
    else:
        raise WireError(f"{message}.{field.name}: bytes expected, got {type(item).__name__}")
    _put_varint(out, n)
    return _put_bytes(out, text, n)


def read_number(bytes data not None, uint32_t field):
    """Return the number in one field of an encoded record, 0 if it is absent, without reading the rest.

    For counting over large tables. Raises WireError for bytes that are not canonical up to the field, and for a
    field that is no number.
    """
    cdef WireReader reader
    cdef WireReader inner
    cdef uint32_t tag_number, wire
    cdef uint64_t value
    reader.p = <const unsigned char *> PyBytes_AS_STRING(data)
    reader.end = reader.p + PyBytes_GET_SIZE(data)
    while reader.p < reader.end:
        if not read_tag(&reader, &tag_number, &wire):
            raise WireError("not a record")
        if tag_number > field:
            return 0
        if wire == WIRE_VARINT and read_varint(&reader, &value):
            if tag_number == field:
                return value
        elif wire != WIRE_BYTES or tag_number == field or not read_bytes(&reader, &inner):
            raise WireError("not a record, or no number")
    return 0


def read_fields(bytes data not None, tuple numbers not None):
    """Return the values of some fields of an encoded record, without reading the rest; None for an absent one.

    ``numbers`` are the fields' numbers, ascending. A value is an int or bytes. Raises WireError for bytes that are
    not canonical up to the last of the fields.
    """
    cdef WireReader reader
    cdef WireReader inner
    cdef uint32_t tag_number, wire
    cdef uint64_t number = 0
    cdef Py_ssize_t at = 0
    cdef bint wanted
    cdef list values = [None] * len(numbers)
    reader.p = <const unsigned char *> PyBytes_AS_STRING(data)
    reader.end = reader.p + PyBytes_GET_SIZE(data)
    while reader.p < reader.end:
        if not read_tag(&reader, &tag_number, &wire):
            raise WireError("not a record")
        while at < len(numbers) and <uint32_t> numbers[at] < tag_number:
            at += 1
        if at == len(numbers):
            break
        wanted = tag_number == <uint32_t> numbers[at]
        if wire == WIRE_VARINT and read_varint(&reader, &number):
            if wanted:
                values[at] = number
        elif wire == WIRE_BYTES and read_bytes(&reader, &inner):
            if wanted:
                values[at] = PyBytes_FromStringAndSize(<const char *> inner.p, inner.end - inner.p)
        else:
            raise WireError("not a record")
    return values


# Decoder of the text forms (docs/token-format.md, section 10): prefix, base64url, checksum.
#
# A text has one spelling: this decoder accepts only the text that an encoder makes of the bytes.

cdef enum:
    TEXT_TRUNCATED = 1
    TEXT_DAMAGED = 2
    TEXT_MALFORMED = 3

cdef enum:
    # Prefix of a presented token, and of the stored form, which nobody presents.
    PRESENTED_CHARS = 15
    STORED_CHARS = 16
    # A `.` and the checksum.
    CHECK_CHARS = 7


TRUNCATED = TEXT_TRUNCATED
DAMAGED = TEXT_DAMAGED
MALFORMED = TEXT_MALFORMED

cdef const char *PROOF_PREFIX = "sessauth_proof_"
cdef const char *ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
cdef const char *PRESENTED_PREFIX = "sessauth_token_"
cdef const char *STORED_PREFIX = "sessauth_secret_"

cdef enum:
    PROOF_CHARS = 15
    NO_VALUE = 0x80

# Six bits of each character; NO_VALUE for those outside the alphabet.
cdef unsigned char VALUES[256]
# CRC-32 (ISO-HDLC) of eight bytes at once: table k is for a byte with k bytes after it.
cdef uint32_t SUMS[8][256]


cdef void _fill_tables() noexcept:
    cdef uint32_t i, k, value, _
    memset(VALUES, NO_VALUE, 256)
    for i in range(64):
        VALUES[<unsigned char> ALPHABET[i]] = <unsigned char> i
    for i in range(256):
        value = i
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        SUMS[0][i] = value
    for k in range(1, 8):
        for i in range(256):
            SUMS[k][i] = (SUMS[k - 1][i] >> 8) ^ SUMS[0][SUMS[k - 1][i] & 0xFF]


_fill_tables()


cdef uint32_t _checksum(bytes_t p, size_t n) noexcept nogil:
    cdef uint32_t value = 0xFFFFFFFFu
    while n >= 8:
        value ^= p[0] | <uint32_t> p[1] << 8 | <uint32_t> p[2] << 16 | <uint32_t> p[3] << 24
        value = (
            SUMS[7][value & 0xFF] ^ SUMS[6][value >> 8 & 0xFF] ^ SUMS[5][value >> 16 & 0xFF] ^ SUMS[4][value >> 24]
            ^ SUMS[3][p[4]] ^ SUMS[2][p[5]] ^ SUMS[1][p[6]] ^ SUMS[0][p[7]]
        )
        p += 8
        n -= 8
    while n:
        value = (value >> 8) ^ SUMS[0][(value ^ p[0]) & 0xFF]
        p += 1
        n -= 1
    return ~value


cdef bint _is_checksum(bytes_t p, uint32_t value) noexcept nogil:
    """Return True if six characters are the base64url of four bytes, big-endian."""
    cdef int i
    for i in range(5):
        if p[i] != <unsigned char> ALPHABET[value >> (26 - 6 * i) & 63]:
            return False
    return p[5] == <unsigned char> ALPHABET[value << 4 & 63]


cdef bint decode_body(bytes_t body, size_t n, unsigned char *out) noexcept nogil:
    """Decode canonical base64url. False for any other text, of which ``out`` may hold a part."""
    cdef unsigned char a, b, c, d
    cdef unsigned char seen = 0
    if n == 0 or n % 4 == 1:
        return False
    while n >= 4:
        a, b, c, d = VALUES[body[0]], VALUES[body[1]], VALUES[body[2]], VALUES[body[3]]
        seen |= a | b | c | d
        out[0] = a << 2 | b >> 4
        out[1] = b << 4 | c >> 2
        out[2] = c << 6 | d
        body += 4
        out += 3
        n -= 4
    if n:
        a, b = VALUES[body[0]], VALUES[body[1]]
        c = VALUES[body[2]] if n == 3 else 0
        seen |= a | b | c
        out[0] = a << 2 | b >> 4
        if n == 3:
            out[1] = b << 4 | c >> 2
        # Unused bits.
        if c & 3 if n == 3 else b & 15:
            return False
    return not seen & NO_VALUE


cdef bytes decode_text(bytes_t p, size_t n, size_t prefix_chars, int *fault):
    """Return the bytes of a text, whose prefix the caller compared; None with the fault."""
    cdef bytes_t dot = <bytes_t> memchr(p + prefix_chars, 0x2E, n - prefix_chars)
    cdef size_t covered = dot - p
    cdef bytes out
    if dot == NULL or n - covered < CHECK_CHARS:
        fault[0] = TEXT_TRUNCATED
        return None
    if n - covered != CHECK_CHARS or not _is_checksum(dot + 1, _checksum(p, covered)):
        fault[0] = TEXT_DAMAGED
        return None
    out = PyBytes_FromStringAndSize(NULL, (covered - prefix_chars) * 3 // 4)
    if not decode_body(p + prefix_chars, covered - prefix_chars, <unsigned char *> PyBytes_AS_STRING(out)):
        fault[0] = TEXT_MALFORMED
        return None
    return out


# Decodes `count` bytes from byte `at` of a body that has them. Nothing is validated.
cdef void body_bytes(bytes_t body, size_t at, size_t count, unsigned char *out) noexcept nogil:
    cdef bytes_t quad = body + at // 3 * 4
    cdef int place = <int> (at % 3)
    cdef size_t i
    for i in range(count):
        if place == 0:
            out[i] = VALUES[quad[0]] << 2 | VALUES[quad[1]] >> 4
            place = 1
        elif place == 1:
            out[i] = VALUES[quad[1]] << 4 | VALUES[quad[2]] >> 2
            place = 2
        else:
            out[i] = VALUES[quad[2]] << 6 | VALUES[quad[3]]
            place = 0
            quad += 4


def text_form_bytes(str text not None, Py_ssize_t prefix_chars):
    """Return the bytes of a text after a prefix of this length, or one of the faults of this module.

    Raises ValueError if the text is no longer than that.
    """
    cdef bytes data = text.encode("ascii", "replace")
    cdef int fault = 0
    if not 0 <= prefix_chars <= PyBytes_GET_SIZE(data):
        raise ValueError("the text is shorter than the prefix")
    out = decode_text(<bytes_t> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), prefix_chars, &fault)
    if fault != TEXT_TRUNCATED and not text.isascii():
        return DAMAGED
    return fault if out is None else out


cpdef bytes proof_bytes(object proof):
    """Return the bytes of a proof's text, or other bytes as they are.

    A text that is damaged, or not of a proof, is returned as it is too: no proof has that encoding. Raises
    TypeError for objects other than bytes and str.
    """
    cdef bytes data, out
    cdef bytes_t p
    cdef size_t n
    cdef int fault = 0
    if isinstance(proof, str):
        data = (<str> proof).encode("utf-8", "replace")
    elif isinstance(proof, bytes):
        data = bytes(proof)
    else:
        raise TypeError(f"the proof is bytes or str, not {type(proof).__name__}")
    p = <bytes_t> PyBytes_AS_STRING(data)
    n = PyBytes_GET_SIZE(data)
    # No form has a longer text.
    if not PROOF_CHARS <= n <= (MAX_TOKEN_BYTES + 64) * 4 // 3 + 64 or memcmp(p, PROOF_PREFIX, PROOF_CHARS) != 0:
        return data
    out = decode_text(p, n, PROOF_CHARS, &fault)
    return data if out is None else out
