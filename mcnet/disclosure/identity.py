"""The certificate that signs: the user's own, or one that is made once on this machine and that nobody vouches for."""

import contextlib
import datetime
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcnet.disclosure.errors import DisclosureError
from mcnet.files import as_written, cause_and_remedy, replacing
from mcnet.packages import missing_package
from mcnet.phrases import phrase
from mcnet.places import local_signer_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate, CertificateBuilder, Name

logger = logging.getLogger(__name__)

_ORGANIZATION = "mcnet-avatar"
_SIGNER_NAME = "made on the user's machine, not verified by anybody"
_AUTHORITY_NAME = "mcnet-avatar, of one machine"
# The same for everybody, so that they tell nothing; UTCTime, as certificates write years, ends with 2049.
_FROM, _UNTIL = datetime.datetime(2025, 1, 1), datetime.datetime(2049, 12, 31)
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True)
class SigningFiles:
    """The user's own certificate; with neither file, the one of this machine signs.

    Attributes:
        certificates: a PEM file: the signer's certificate first, then those that vouch for it; "" for none.
        key: a PEM file with its private key, without a passphrase; "" for none.
    """

    certificates: str = ""
    key: str = ""


@dataclass(frozen=True)
class Identity:
    """What signs.

    Attributes:
        certificates: the chain, PEM, the signer's first.
        key: its private key, PEM (PKCS #8).
        algorithm: of the signature, as C2PA names it; it follows from the key.
    """

    certificates: bytes
    key: bytes
    algorithm: str


def find_identity(files: SigningFiles) -> Identity:
    """The user's own identity, or this machine's, which is made if there is none yet.

    Raises:
        DisclosureError: the user's files cannot be used, this machine's cannot be written, or `cryptography` is not
            there.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise DisclosureError(
            missing_package(error)
            or phrase("the package cryptography cannot be used ({error}); install the app again", error=error)
        ) from error
    if files == SigningFiles():
        return _local_identity(local_signer_file())
    if not (files.certificates and files.key):
        raise DisclosureError(
            phrase("got only a private key to sign with: name the file of its certificates as well")
            if files.key
            else phrase("got only certificates to sign with: name the file of their private key as well")
        )
    return _own_identity(as_written(files.certificates), as_written(files.key))


def _own_identity(certificates_path: Path, key_path: Path) -> Identity:
    chain, key = _pair(certificates_path, key_path)
    now = datetime.datetime.now(datetime.UTC)
    begin, end = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not begin <= now <= end:
        raise DisclosureError(
            phrase(
                "the certificate in {path} is valid from {begin} to {end} and not now: get a new one",
                path=certificates_path,
                begin=begin.date(),
                end=end.date(),
            )
        )
    return _identity(chain, key, key_path)


def _identity(chain: "Sequence[Certificate]", key: "PrivateKeyTypes", key_path: Path) -> Identity:
    return Identity(b"".join(_pem(one) for one in chain), _key_pem(key), algorithm_of(key, key_path))


def _pair(certificates_path: Path, key_path: Path) -> "tuple[list[Certificate], PrivateKeyTypes]":
    """Certificates, the signer's first, and the private key that belongs to it.

    Raises:
        DisclosureError: one of them is not there or cannot be used, or they do not belong together.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        chain = load_pem_x509_certificates(_content(certificates_path))
    except ValueError as error:
        raise DisclosureError(
            phrase(
                "{path} holds no certificates ({error}); expected PEM, the signer's first",
                path=certificates_path,
                error=error,
            )
        ) from error
    try:
        key = load_pem_private_key(_content(key_path), password=None)
    except TypeError as error:
        raise DisclosureError(
            phrase(
                "the private key {path} has a passphrase, and nobody is there to type it: expected one without",
                path=key_path,
            )
        ) from error
    except Exception as error:  # cryptography has several kinds for keys that it does not know
        raise DisclosureError(
            phrase("{path} holds no private key ({error}); expected PEM", path=key_path, error=error)
        ) from error
    if _public(key) != _public_of(chain[0]):
        raise DisclosureError(
            phrase(
                "the private key {key} is not that of the first certificate in {certificates}: give the pair that "
                "belongs together, the signer's certificate first",
                key=key_path,
                certificates=certificates_path,
            )
        )
    return chain, key


def algorithm_of(key: "PrivateKeyTypes", path: Path) -> str:
    """The signature's algorithm, which follows from the key.

    Args:
        key: a private key.
        path: where it is.

    Raises:
        DisclosureError: C2PA has none for such a key.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return "ps256"
    if isinstance(key, Ed25519PrivateKey):
        return "ed25519"
    raise DisclosureError(
        phrase(
            "the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or "
            "P-521), Ed25519, or RSA of at least {bits} bits",
            path=path,
            bits=_LEAST_RSA_BITS,
        )
    )


def _local_identity(path: Path) -> Identity:
    """This machine's, from its one file; made anew where there is none, or none that can be used."""
    try:
        path.read_bytes()
    except FileNotFoundError:
        return _made(path)
    except OSError as error:
        raise DisclosureError(
            phrase("cannot read this machine's signer {path}: {why}", path=path, why=cause_and_remedy(error))
        ) from error
    kept = _kept(path)
    if kept is None:
        logger.warning("this machine's signer %s is damaged; another one takes its place", path)
        return _made(path)
    _close_to_others(path)
    return kept


def _kept(path: Path) -> Identity | None:
    """What `_made` kept: a key, its certificate and the authority's; None where it is damaged."""
    try:
        chain, key = _pair(path, path)
        return _identity(chain, key, path) if len(chain) == 2 else None
    except DisclosureError:
        return None


def _made(path: Path) -> Identity:
    """A new identity, kept in one file that its owner alone can read: key and certificates cannot come apart.

    Of the authority that vouches for it the key is thrown away, so that it never vouches for anything else.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate(_AUTHORITY_NAME, authority_key, _AUTHORITY_NAME, authority_key, is_authority=True)
    signer = _certificate(_SIGNER_NAME, key, _AUTHORITY_NAME, authority_key, is_authority=False)
    identity = Identity(_pem(signer) + _pem(authority), _key_pem(key), "es256")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as partial:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(identity.key + identity.certificates)
    except OSError as error:
        raise DisclosureError(
            phrase("cannot keep this machine's signer in {path}: {why}", path=path, why=cause_and_remedy(error))
        ) from error
    return identity


def _certificate(
    name: str,
    key: "PrivateKeyTypes",
    issuer: str,
    issuer_key: "PrivateKeyTypes",
    *,
    is_authority: bool,
) -> "Certificate":
    """A certificate with what C2PA asks of one (section 14.5 of its specification)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    builder: CertificateBuilder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())  # type: ignore[arg-type] # of an elliptic curve, as all of ours
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)  # type: ignore[arg-type]
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]


def _name(common_name: str) -> "Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DisclosureError(
            phrase("cannot read {path}: {why}; check its name", path=path, why=error.strerror or error)
        ) from error


def _close_to_others(path: Path) -> None:
    """Take from others what they may not have: a copy or a backup may have given it to them."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        with contextlib.suppress(OSError):
            path.chmod(0o600)


def _pem(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: "PrivateKeyTypes") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(key: "PrivateKeyTypes") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
