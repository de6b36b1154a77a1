"""Certificates for tests that openssl's command can't make, made with ``cryptography``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_DAY = timedelta(days=1)


def rsa_key() -> rsa.RSAPrivateKey:
    """Make a key of 2048 bits."""
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @cached_property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @cached_property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @cached_property
    def key_pem(self) -> bytes:
        """The key in PEM, without passphrase."""
        return self.locked_key(serialization.NoEncryption())

    def locked_key(self, encryption: serialization.KeySerializationEncryption) -> bytes:
        """Return the key in PEM under a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    @classmethod
    def ca(cls, name: str, days: tuple[int, int] = (-1, 2)) -> Self:
        """Make a CA that signed itself; ``days`` are its begin and its end, from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_signed(name, key, name, key, ca=True, days=days), key)

    def issue(
        self,
        name: str,
        alternative: Sequence[x509.GeneralName] = (),
        *,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        usage: x509.ObjectIdentifier | None = None,
        days: tuple[int, int] = (-1, 2),
        ca: bool = False,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Self:
        """Sign a certificate; ``days`` are its begin and its end, from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        more = [*extensions]
        if alternative:
            more.append(x509.SubjectAlternativeName(alternative))
        if usage is not None:
            more.append(x509.ExtendedKeyUsage([usage]))
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return type(self)(_signed(name, key, str(issuer), self.key, ca=ca, days=days, more=more), key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    name: str,
    key: CertificateIssuerPrivateKeyTypes,
    issuer: str,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    *,
    ca: bool,
    days: tuple[int, int] = (-1, 2),
    more: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * _DAY)
        .not_valid_after(now + days[1] * _DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
