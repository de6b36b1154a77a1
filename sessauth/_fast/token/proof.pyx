"""Proofs of possession of a bound token's secret, for one request: parsing, and creation by holders.

A proof covers the request's digest, the chain's last signature, the verifier, a time and a nonce. Kind 1 is an Ed25519
signature; kind 2 a MAC under a key that holder and verifier agree on by X25519 (docs/token-format.md, sections 8.1 and
9.9). ``check/stages`` verifies proofs.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    # Including the zero byte of each.
    REQUEST_LABEL_BYTES = 20
    PROOF_LABEL_BYTES = 18
    MAC_LABEL_BYTES = 22
    # Label, shared secret, proof_key, the verifier's key, next_key, verifier id, key id.
    MAC_KEY_BYTES = MAC_LABEL_BYTES + 4 * 32 + NAME_BYTES

cdef const char *REQUEST_LABEL = "sessauth/request/v1"
cdef const char *PROOF_LABEL = "sessauth/proof/v1"
cdef const char *MAC_LABEL = "sessauth/proof-mac/v1"
# 2**53 - 1 doesn't fit an enum of C.
cdef uint64_t MAX_TIME_MS = 0x1FFFFFFFFFFFFF


@cython.final
cdef class ProofKeys:
    """The verifier id, keys and replay table that a host verifies proofs with. Immutable.

    ``ProofKeys(verifier_id, keys, table)``: ``keys`` are up to two tuples ``(public_key, secret,
    not_before_ms, expires_at_ms)``, X25519, 32 bytes each; a key is valid from the first time up to the
    second, exclusive. Without a valid key or a table every proof is denied PROOF_UNAVAILABLE. Raises ValueError for
    ids and keys of another length, a public key that is not the secret's, and more than two keys.
    """

    def __cinit__(self, bytes verifier_id not None, keys, ReplayTable table=None):
        cdef VerifierKey *key
        cdef unsigned char derived[32]
        if PyBytes_GET_SIZE(verifier_id) != 16:
            raise ValueError("a verifier id has 16 bytes")
        memcpy(self.verifier, PyBytes_AS_STRING(verifier_id), 16)
        for public, secret, not_before_ms, expires_at_ms in keys:
            if self.count == MAX_VERIFIER_KEYS:
                raise ValueError("a host has at most two verifier keys: the current one and the one before")
            key = &self.keys[self.count]
            memcpy(key.public, _bytes32(public, "a verifier key"), 32)
            memcpy(key.secret, _bytes32(secret, "a secret"), 32)
            key.not_before_ms = not_before_ms
            key.expires_at_ms = expires_at_ms
            agree_base(derived, key.secret)
            if memcmp(derived, key.public, 32) != 0:
                raise ValueError("the verifier key is not that of the secret beside it")
            blake2b_256(key.id, key.public, 32)
            self.count += 1
        self._table = table
        self.table = NULL if table is None else &table.table

    def __dealloc__(self):
        memset(self.keys, 0, sizeof(self.keys))

    @property
    def verifier_id(self):
        """The verifier id of the host, 16 bytes."""
        return PyBytes_FromStringAndSize(<const char *> self.verifier, 16)

    @property
    def key_ids(self):
        """The ids of the keys, 32 bytes each, in their order."""
        return tuple([PyBytes_FromStringAndSize(<const char *> self.keys[i].id, 32) for i in range(self.count)])

    @property
    def replay_table(self):
        """The replay table, or None."""
        return self._table

    def __repr__(self):
        return f"<{type(self).__name__} of {self.verifier_id.hex()}, {self.count} keys>"


# --- the bytes ----------------------------------------------------------------------------------

cdef bint parse_proof(bytes_t p, size_t n, Proof *out) noexcept nogil:
    """Parse a Proof in canonical encoding with parts of the right lengths."""
    cdef WireReader reader
    cdef uint64_t kind
    reader.p = p
    reader.end = p + n
    if not _number(&reader, 1, &kind) or (kind != PROOF_ED25519 and kind != PROOF_MAC):
        return False
    out.kind = <int> kind
    out.time_ms = 0
    if not _bytes(&reader, 2, 16, &out.verifier_id) or not _bytes(&reader, 3, 32, &out.key_id):
        return False
    # A time of 0 is the default, so it is absent.
    if reader.p < reader.end and reader.p[0] == (4 << 3 | WIRE_VARINT) and not _number(&reader, 4, &out.time_ms):
        return False
    return (
        out.time_ms <= MAX_TIME_MS
        and _bytes(&reader, 5, 16, &out.nonce)
        and _bytes(&reader, 6, SIGNATURE_BYTES if kind == PROOF_ED25519 else 32, &out.tag)
        and reader.p == reader.end
    )


cdef bint _number(WireReader *reader, uint32_t number, uint64_t *value) noexcept nogil:
    """Read the next field if it has this number and is not the default."""
    cdef uint32_t tag_number, wire
    return (
        read_tag(reader, &tag_number, &wire)
        and tag_number == number
        and wire == WIRE_VARINT
        and read_varint(reader, value)
        and value[0] != 0
    )


cdef bint _bytes(WireReader *reader, uint32_t number, Py_ssize_t length, bytes_t *value) noexcept nogil:
    """Read the next field if it has this number and length."""
    cdef uint32_t tag_number, wire
    cdef WireReader inner
    if not read_tag(reader, &tag_number, &wire) or tag_number != number or wire != WIRE_BYTES:
        return False
    if not read_bytes(reader, &inner) or inner.end - inner.p != length:
        return False
    value[0] = inner.p
    return True


cdef inline void _put_u32(unsigned char *out, uint32_t value) noexcept nogil:
    out[0] = <unsigned char> (value >> 24)
    out[1] = <unsigned char> (value >> 16)
    out[2] = <unsigned char> (value >> 8)
    out[3] = <unsigned char> value


cdef void _add_part(Hashing *hashing, bytes_t p, size_t n) noexcept nogil:
    cdef unsigned char length[4]
    _put_u32(length, <uint32_t> n)
    hash_add(hashing, length, 4)
    hash_add(hashing, p, n)


# BLAKE2b-256 over the parts of a request that its holder knows.
cdef void digest_request(
    unsigned char *out, bytes_t action, size_t action_n, bytes_t resource, size_t resource_n, bytes_t arguments, size_t n
) noexcept nogil:
    cdef Hashing hashing
    if n == 0:
        arguments = <bytes_t> <const char *> "{}"
        n = 2
    hash_begin(&hashing)
    hash_add(&hashing, <bytes_t> REQUEST_LABEL, REQUEST_LABEL_BYTES)
    _add_part(&hashing, action, action_n)
    _add_part(&hashing, resource, resource_n)
    _add_part(&hashing, arguments, n)
    hash_end(&hashing, out)


cdef void put_covered_bytes(
    unsigned char *out,
    int kind,
    bytes_t signature,
    bytes_t verifier_id,
    bytes_t key_id,
    bytes_t digest,
    uint64_t time_ms,
    bytes_t nonce,
) noexcept nogil:
    """Write the bytes that a proof covers, COVERED_BYTES."""
    memcpy(out, PROOF_LABEL, PROOF_LABEL_BYTES)
    out += PROOF_LABEL_BYTES
    out[0] = <unsigned char> kind
    memcpy(out + 1, signature, SIGNATURE_BYTES)
    out += 1 + SIGNATURE_BYTES
    memcpy(out, verifier_id, 16)
    memcpy(out + 16, key_id, 32)
    memcpy(out + 48, digest, 32)
    _put_u32(out + 80, <uint32_t> (time_ms >> 32))
    _put_u32(out + 84, <uint32_t> time_ms)
    memcpy(out + 88, nonce, 16)


# Derive the key of MACs, 32 bytes, from X25519's shared secret.
cdef void put_mac_key(
    unsigned char *out,
    bytes_t shared,
    bytes_t proof_key,
    bytes_t verifier_key,
    bytes_t next_key,
    bytes_t verifier_id,
    bytes_t key_id,
) noexcept nogil:
    cdef unsigned char data[MAC_KEY_BYTES]
    memcpy(data, MAC_LABEL, MAC_LABEL_BYTES)
    memcpy(data + MAC_LABEL_BYTES, shared, 32)
    memcpy(data + MAC_LABEL_BYTES + 32, proof_key, 32)
    memcpy(data + MAC_LABEL_BYTES + 64, verifier_key, 32)
    memcpy(data + MAC_LABEL_BYTES + 96, next_key, 32)
    memcpy(data + MAC_LABEL_BYTES + 128, verifier_id, 16)
    memcpy(data + MAC_LABEL_BYTES + 144, key_id, 32)
    blake2b_256(out, data, MAC_KEY_BYTES)


# --- for holders --------------------------------------------------------------------------------

cdef bytes_t _bytes32(object data, str what) except NULL:
    if not isinstance(data, bytes) or PyBytes_GET_SIZE(data) != 32:
        raise ValueError(f"{what} has 32 bytes")
    return <bytes_t> PyBytes_AS_STRING(data)


def request_digest(action not None, resource not None, bytes arguments not None=b""):
    """Return the digest of a request, 32 bytes: action and resource (str or bytes) and the arguments' bytes.

    Empty arguments count as ``{}``. Raises ValueError for a part of 4 GiB or more.
    """
    cdef TextSlice a, r
    cdef unsigned char out[32]
    cdef object _held_action = slice_of(action, &a)
    cdef object _held_resource = slice_of(resource, &r)
    if a.n > 0xFFFFFFFFU or r.n > 0xFFFFFFFFU or <size_t> PyBytes_GET_SIZE(arguments) > 0xFFFFFFFFU:
        raise ValueError("a part of a request has less than 4 GiB")
    digest_request(out, a.p, a.n, r.p, r.n, <bytes_t> PyBytes_AS_STRING(arguments), PyBytes_GET_SIZE(arguments))
    return PyBytes_FromStringAndSize(<const char *> out, 32)


def covered_bytes(
    int kind,
    bytes last_signature not None,
    bytes verifier_id not None,
    bytes key_id not None,
    bytes request_digest not None,
    uint64_t time_ms,
    bytes nonce not None,
):
    """Return the bytes that a proof of this kind (1 Ed25519, 2 MAC) covers, for the holder to sign or MAC.

    Raises ValueError for another kind, or parts of other lengths than 64, 16, 32, 32 and 16 bytes.
    """
    cdef unsigned char out[COVERED_BYTES]
    if kind != PROOF_ED25519 and kind != PROOF_MAC:
        raise ValueError("the kind of a proof is 1 or 2")
    if (len(last_signature), len(verifier_id), len(key_id), len(request_digest), len(nonce)) != (64, 16, 32, 32, 16):
        raise ValueError("a signature has 64 bytes, verifier id and nonce 16, key id and digest 32")
    put_covered_bytes(
        out,
        kind,
        <bytes_t> PyBytes_AS_STRING(last_signature),
        <bytes_t> PyBytes_AS_STRING(verifier_id),
        <bytes_t> PyBytes_AS_STRING(key_id),
        <bytes_t> PyBytes_AS_STRING(request_digest),
        time_ms,
        <bytes_t> PyBytes_AS_STRING(nonce),
    )
    return PyBytes_FromStringAndSize(<const char *> out, COVERED_BYTES)


def mac_key_of_holder(bytes proof_secret, bytes verifier_key, bytes next_key, bytes verifier_id not None):
    """Return the key (32 bytes) of a holder's MACs for one verifier key.

    ``proof_secret`` is the X25519 secret of the token's ``proof_key``. The key id is the digest of ``verifier_key``.
    Raises ValueError for other lengths, and for a verifier key of small order, with which every secret agrees on
    the same value.
    """
    cdef unsigned char shared[32]
    cdef unsigned char proof_key[32]
    cdef unsigned char key_id[32]
    cdef unsigned char out[32]
    cdef bytes_t secret = _bytes32(proof_secret, "a proof secret")
    cdef bytes_t public = _bytes32(verifier_key, "a verifier key")
    cdef bytes_t following = _bytes32(next_key, "next_key")
    if PyBytes_GET_SIZE(verifier_id) != 16:
        raise ValueError("a verifier id has 16 bytes")
    if not agree(shared, secret, public):
        raise ValueError("the verifier key is of small order: no key can be agreed on")
    agree_base(proof_key, secret)
    blake2b_256(key_id, public, 32)
    put_mac_key(out, shared, proof_key, public, following, <bytes_t> PyBytes_AS_STRING(verifier_id), key_id)
    return PyBytes_FromStringAndSize(<const char *> out, 32)


def mac(bytes key, bytes message not None):
    """Return the MAC (BLAKE2b, 32 bytes) of a message under a key of 32 bytes; ValueError for another length."""
    cdef unsigned char out[32]
    blake2b_mac(
        out, _bytes32(key, "a key"), <bytes_t> PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)
    )
    return PyBytes_FromStringAndSize(<const char *> out, 32)


def x25519(bytes secret, bytes public_key):
    """Return the shared secret (32 bytes) of a secret and a public key (32 bytes each).

    Raises ValueError for other lengths, and for a public key of small order, which yields zeros.
    """
    cdef unsigned char out[32]
    if not agree(out, _bytes32(secret, "a secret"), _bytes32(public_key, "a public key")):
        raise ValueError("the public key is of small order: nothing can be agreed on")
    return PyBytes_FromStringAndSize(<const char *> out, 32)


def x25519_public(bytes secret):
    """Return the X25519 public key of a secret, 32 bytes each; ValueError for another length."""
    cdef unsigned char out[32]
    agree_base(out, _bytes32(secret, "a secret"))
    return PyBytes_FromStringAndSize(<const char *> out, 32)
