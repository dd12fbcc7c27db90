"""Who signs: this machine, once and for its user alone, or the user's own certificate."""

import datetime
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import load_pem_x509_certificates

from mcnet.disclosure import (
    DisclosureError,
    Generated,
    Identity,
    ModelUsed,
    SigningFiles,
    disclose,
    find_identity,
    identity,
    read_credentials,
)
from mcnet.places import local_signer_file
from tests.mcnet.disclosure.test_manifest import written


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def own_files(folder: Path, key: PrivateKeyTypes, name: str = "Example Studio") -> SigningFiles:
    """Files as somebody gets them from an authority."""
    authority = ec.generate_private_key(ec.SECP256R1())
    chain = [
        identity._certificate(name, key, "An authority", authority, is_authority=False),
        identity._certificate("An authority", authority, "An authority", authority, is_authority=True),
    ]
    (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    (folder / "key.pem").write_bytes(identity._key_pem(key))
    return SigningFiles(str(folder / "chain.pem"), str(folder / "key.pem"))


def test_the_machines_own_is_made_once_and_is_its_users_alone() -> None:
    made = find_identity(SigningFiles())
    assert find_identity(SigningFiles()) == made
    assert made.algorithm == "es256"
    path = local_signer_file()
    assert [entry.name for entry in path.parent.iterdir()] == ["local.pem"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.chmod(0o644)  # as a copy or a backup may leave it
        assert find_identity(SigningFiles()) == made
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_its_certificate_says_nothing_of_anybody() -> None:
    signer, authority = load_pem_x509_certificates(find_identity(SigningFiles()).certificates)
    assert signer.subject.rfc4514_string() == "CN=made on the user's machine\\, not verified by anybody,O=mcnet-avatar"
    assert authority.subject.rfc4514_string() == "CN=mcnet-avatar\\, of one machine,O=mcnet-avatar"
    for one in (signer, authority):
        assert one.not_valid_before_utc == datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)  # everybody's


@pytest.mark.parametrize(
    "damage",
    [
        lambda made: made.key[:40],
        lambda made: made.key + made.certificates[:200],
        lambda made: made.key + made.certificates[:-200],
        lambda made: made.key + b"?",
        lambda made: made.key.replace(b"\nM", b"\n?", 1) + made.certificates,
        lambda made: identity._key_pem(ec.generate_private_key(ec.SECP256R1())) + made.certificates,
        lambda _: b"",
    ],
    ids=["key", "certificates", "the last certificate", "no certificates", "key's content", "another key", "empty"],
)
def test_one_that_is_damaged_is_replaced(damage: Callable[[Identity], bytes], caplog: pytest.LogCaptureFixture) -> None:
    made = find_identity(SigningFiles())
    assert find_identity(SigningFiles()) == made
    local_signer_file().write_bytes(damage(made))
    anew = find_identity(SigningFiles())
    assert anew != made
    assert "is damaged; another one takes its place" in caplog.text
    assert find_identity(SigningFiles()) == anew


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="a file in a folder's place stops any user")
def test_one_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(DisclosureError, match=r"cannot (keep|read) this machine's signer"):
        find_identity(SigningFiles())


def test_the_users_own_may_be_named_from_his_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = find_identity(own_files(tmp_path, ec.generate_private_key(ec.SECP256R1())))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_identity(SigningFiles("~/chain.pem", "~/key.pem")) == own
    with pytest.raises(DisclosureError, match="~nobody-of-this-name"):
        find_identity(SigningFiles("~nobody-of-this-name/chain.pem", "~/key.pem"))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_the_users_own_signs(key: PrivateKeyTypes, algorithm: str, tmp_path: Path) -> None:
    own = find_identity(own_files(tmp_path, key))
    assert own.algorithm == algorithm
    path = written(tmp_path / "a.png")
    disclose(path, Generated((ModelUsed("m"),)), own)
    found = read_credentials(path)
    assert found is not None
    assert found.intact
    assert "Example Studio" in found.signer
    assert not local_signer_file().exists()


def test_files_that_cannot_sign_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = own_files(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    other = tmp_path / "other.pem"
    other.write_bytes(identity._key_pem(ec.generate_private_key(ec.SECP256R1())))
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    odd = tmp_path / "odd"
    odd.mkdir()
    for wrong, told in (
        (SigningFiles(files.certificates, ""), "name the file of their private key as well"),
        (SigningFiles("", files.key), "name the file of its certificates as well"),
        (SigningFiles(str(tmp_path / "none.pem"), files.key), "cannot read .*none.pem: No such file"),
        (SigningFiles(files.key, files.key), "holds no certificates"),
        (SigningFiles(files.certificates, files.certificates), "holds no private key"),
        (SigningFiles(files.certificates, str(other)), "is not that of the first certificate"),
        (SigningFiles(files.certificates, str(locked)), "has a passphrase"),
        (own_files(odd, ec.generate_private_key(ec.SECP256K1())), "of a kind that C2PA does not take"),
    ):
        with pytest.raises(DisclosureError, match=told):
            find_identity(wrong)
    monkeypatch.setattr(identity, "_UNTIL", datetime.datetime(2025, 2, 1))
    with pytest.raises(DisclosureError, match="is valid from 2025-01-01 to 2025-02-01 and not now: get a new one"):
        find_identity(own_files(tmp_path, ec.generate_private_key(ec.SECP256R1())))


def test_without_cryptography_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(DisclosureError, match=r"^the package cryptography is not installed \(pip install cryptography"):
        find_identity(SigningFiles())
