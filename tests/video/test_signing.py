"""C2PA signatures: made with a certificate of one's own, verified, and invalid once a file is changed."""

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import conventions, last, quick, shop
from command import assert_refused, run
from PIL import Image
from places import ROOT
from tiny import build_tiny_model

pytest.importorskip("c2pa", reason="needs the extra c2pa")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions, SigningOptions
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.video import marking, poster, provenance, signing

PHOTO = ROOT / "examples" / "dress.jpg"
FRAMES = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(8)]
DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Shop"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def _certificate(name: str, key: Key, root: ec.EllipticCurvePrivateKey, is_root: bool, days: int) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("Test Root"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 400 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(is_root, None), True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage), True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(identifier, False)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True)
    return builder.sign(root, hashes.SHA256())


def _credentials(folder: Path, key: Key | None = None, days: int = 400) -> SigningOptions:
    """A root, a signer's certificate below it, and the signer's key."""
    root, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    chain = [
        _certificate("FashionFlow signer", key, root, False, days),
        _certificate("Test Root", root, root, True, 400),
    ]
    encoding = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(encoding) for one in chain))
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "signer.key").write_bytes(key.private_bytes(encoding, form, plain))
    return SigningOptions(str(folder / "chain.pem"), str(folder / "signer.key"), (str(PHOTO),))


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> SigningOptions:
    return _credentials(tmp_path_factory.mktemp("keys"))


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest that counts in a signed file."""
    import c2pa

    store = json.loads(c2pa.Reader(str(path)).json())
    return store["manifests"][store["active_manifest"]]


def _sources(path: Path) -> list[str]:
    return [one["title"] for one in _manifest(path)["ingredients"]]


def _write(path: Path, sign: SigningOptions | None) -> Path:
    options = EncodeOptions(sign=sign)
    video.write(iter(FRAMES), path, 10, 8, metadata={"fashionflow_seed": "7"}, options=options)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_signed_files_hold_the_same_frames_and_name_their_photo(
    tmp_path: Path, suffix: str, credentials: SigningOptions
):
    signed, plain = _write(tmp_path / f"s{suffix}", credentials), _write(tmp_path / f"p{suffix}", None)
    assert np.array_equal(video.read(signed), video.read(plain))
    assert video.read_metadata(signed) == video.read_metadata(plain)
    assert provenance.source_type(signed) == marking.SOURCE_TYPE
    assert signing.state_of(signed).startswith("valid, signed by FashionFlow signer of Test Shop")
    assert signing.state_of(plain) == ""
    assert signed.stat().st_size - plain.stat().st_size < 6000, "without thumbnails"
    active = _manifest(signed)
    (ingredient,) = active["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("dress.jpg", "inputTo")
    stated = {one["label"]: one["data"] for one in active["assertions"]}
    created = next(one for one in stated["c2pa.actions.v2"]["actions"] if one["action"] == "c2pa.created")
    assert created["digitalSourceType"] == marking.SOURCE_TYPE
    assert stated["org.fashionflow.generation"] == {"fashionflow_seed": "7"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"p{suffix}", f"s{suffix}"]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_a_changed_file_is_invalid(tmp_path: Path, suffix: str, credentials: SigningOptions):
    signed = _write(tmp_path / f"s{suffix}", credentials)
    data, plain = bytearray(signed.read_bytes()), _write(tmp_path / f"p{suffix}", None).read_bytes()
    # A byte in the middle of what the unsigned file has, too; of an MP4 one of its pictures.
    sample = plain[len(plain) // 2 : len(plain) // 2 + 12] if suffix != ".mp4" else b""
    at = data.find(sample) + 4 if sample else data.find(b"mdat") + 40
    assert at > 40
    data[at] ^= 1
    signed.write_bytes(data)
    assert signing.state_of(signed).startswith("invalid: assertion.")


def test_keys_and_certificates_that_cannot_sign(tmp_path: Path, credentials: SigningOptions):
    other = tmp_path / "other"
    other.mkdir()
    stranger = _credentials(other)
    for options, error, words in (
        (SigningOptions(credentials.cert, stranger.key), UsageError, "not the key of the first certificate"),
        (SigningOptions(credentials.key, credentials.key), FashionFlowError, "not a certificate chain"),
        (SigningOptions(credentials.cert, credentials.cert), FashionFlowError, "not an unencrypted private key"),
        (SigningOptions(str(tmp_path / "no.pem"), credentials.key), FashionFlowError, "no such file"),
    ):
        with pytest.raises(error, match=words):
            signing.check(options)
    expired = _credentials(other, days=-1)
    with pytest.raises(FashionFlowError, match=r"v\.mp4: (its signature does not verify|cannot be signed)"):
        _write(tmp_path / "v.mp4", expired)
    assert not (tmp_path / "v.mp4").exists()
    with pytest.raises(UsageError, match="C2PA cannot sign such files"):
        _write(tmp_path / "v.webm", credentials)
    _write(tmp_path / "ed.mp4", _credentials(other, ed25519.Ed25519PrivateKey.generate()))
    assert signing.state_of(tmp_path / "ed.mp4").startswith("valid")


def test_without_the_extra_a_signature_is_present(
    tmp_path: Path, credentials: SigningOptions, monkeypatch: pytest.MonkeyPatch
):
    signed = _write(tmp_path / "s.mp4", credentials)

    def missing() -> None:
        raise FashionFlowError("C2PA needs the package c2pa-python", hint="pip install")

    monkeypatch.setattr(signing, "_library", missing)
    assert signing.state_of(signed) == "present, not verified: pip install"
    with pytest.raises(FashionFlowError, match="c2pa-python"):
        _write(tmp_path / "t.mp4", credentials)
    assert not (tmp_path / "t.mp4").exists()


def test_catalogues_are_signed_and_not_remade_for_another_key_file(tmp_path: Path, credentials: SigningOptions):
    shop(tmp_path / "photos", 1)
    model = conventions(tmp_path / "model")
    (tmp_path / "keys").mkdir()
    for file in (credentials.cert, credentials.key):
        shutil.copy(file, tmp_path / "keys")
    for folder in (Path(credentials.cert).parent, tmp_path / "keys"):
        keys = ("--c2pa-cert", folder / "chain.pem", "--c2pa-key", folder / "signer.key")
        done = quick("photos", "-o", "out", "-m", model, *keys, "-q", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 1
    assert signing.state_of(tmp_path / "out" / last(tmp_path / "out")["000"]["output"]).startswith("valid")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_posters_are_signed(tmp_path: Path, suffix: str, credentials: SigningOptions):
    path = tmp_path / f"poster{suffix}"
    poster.write(path, FRAMES[3], EncodeOptions(sign=credentials), {"fashionflow_seed": "7"}, comment=b"ours")
    assert signing.state_of(path).startswith("valid, signed by FashionFlow signer")
    assert provenance.source_type(path) == marking.SOURCE_TYPE and _sources(path) == ["dress.jpg"]
    assert np.abs(np.asarray(Image.open(path)).astype(int) - FRAMES[3]).max() <= 2
    assert path.stat().st_size < 8000
    # A picture of one colour: a byte of its data.
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert signing.state_of(path).startswith("invalid")


def test_videos_as_sources(tmp_path: Path, credentials: SigningOptions):
    """As `interpolate` and `lock` name them; what C2PA cannot name is left out."""
    for suffix in (".mp4", ".webp", ".webm"):
        _write(tmp_path / f"in{suffix}", None)
    sources = tuple(str(tmp_path / f"in{suffix}") for suffix in (".mp4", ".webp", ".webm"))
    signed = _write(tmp_path / "v.mp4", SigningOptions(credentials.cert, credentials.key, sources))
    assert signing.state_of(signed).startswith("valid") and _sources(signed) == ["in.mp4", "in.webp"]


@pytest.mark.slow
def test_a_catalogue_names_photos_of_urls(tmp_path: Path, credentials: SigningOptions):
    shop(tmp_path / "photos", 1)
    keys = ("--c2pa-cert", credentials.cert, "--c2pa-key", credentials.key)
    source = f"file:{'//'}{tmp_path}/photos/"
    env = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    done = quick(source, "-o", "out", "-m", conventions(tmp_path / "model"), *keys, "-q", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    record = last(tmp_path / "out")["000"]
    for name in (record["output"], record["poster"]):
        assert signing.state_of(tmp_path / "out" / name).startswith("valid")
        assert _sources(tmp_path / "out" / name) == ["000.jpg"]
    done = quick(source, "-o", "out", "-m", "model", *keys, "--overwrite", "-q", cwd=tmp_path, env=env)
    assert done.returncode == 0, "a signed poster is still one of the catalogue's own"


@pytest.mark.slow
def test_commands_sign_and_inspect_tells(tmp_path: Path, credentials: SigningOptions):
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    keys = ("--c2pa-cert", credentials.cert, "--c2pa-key", credentials.key)
    small = ("--size", "160x128", "--frames", "4", "--steps", "2")
    assert run("generate", "dress.jpg", "-o", "v.mp4", *small, *keys, "--poster", cwd=tmp_path).returncode == 0
    for name in ("v.mp4", "v-poster.png"):
        told = run("inspect", name, cwd=tmp_path).stdout
        assert "signature           valid, signed by FashionFlow signer of Test Shop" in told
        assert _sources(tmp_path / name) == ["dress.jpg"]
    piped = run("generate", "-", "-o", "p.mp4", *small, *keys, cwd=tmp_path, stdin=PHOTO.read_bytes())
    assert piped.returncode == 0 and _sources(tmp_path / "p.mp4") == ["stdin"], piped.stderr
    locked = run("lock", "v.mp4", "--photo", "dress.jpg", "-o", "l.mp4", "--level", "colour", *keys, cwd=tmp_path)
    assert locked.returncode == 0 and _sources(tmp_path / "l.mp4") == ["dress.jpg", "v.mp4"], locked.stderr
    model = build_tiny_model(tmp_path / "tiny", known_content="rgb", modes=("generate", "interpolate"))
    filled = run("interpolate", "v.mp4", "-m", model, "-o", "i.mp4", *keys, cwd=tmp_path)
    assert filled.returncode == 0 and _sources(tmp_path / "i.mp4") == ["v.mp4"], filled.stderr
    for name in ("p.mp4", "l.mp4", "i.mp4"):
        assert signing.state_of(tmp_path / name).startswith("valid")
        assert provenance.source_type(tmp_path / name) == marking.SOURCE_TYPE
    assert_refused(
        run("generate", "dress.jpg", "-o", "v.webm", *small, *keys, cwd=tmp_path), 2, "--c2pa-cert", "v.webm"
    )
    assert_refused(run("generate", "dress.jpg", *keys[:2], cwd=tmp_path), 2, "--c2pa-key")
