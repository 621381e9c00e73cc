"""C2PA signatures of generated videos and posters: signing with the user's certificate, and verification.

A manifest states that a trained model made the file, with its settings and the hashes of the photo or video that it was
made from. C2PA (Content Credentials) is signed data: it names the signer and shows that nothing has changed since.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.config import SigningOptions
from fashionflow_core.errors import FashionFlowError, SettingError, option, reason_of
from fashionflow_core.utils import extras
from fashionflow_core.utils.temporary import scratch_folder
from fashionflow_core.video import boxes
from fashionflow_core.video.marking import SOURCE_TYPE

_UNTRUSTED = "signingCredential.untrusted"
# Nothing is fetched: neither manifests that lie elsewhere nor lists of revoked certificates.
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_MP4_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # UUID of a C2PA box (C2PA 2.2, A.4)


def check(options: SigningOptions) -> None:
    """Refuse, before any work, a certificate or key that cannot sign.

    Raises:
        UsageError: the key is not that of the certificate.
        FashionFlowError: the extra is not installed; a file is missing or not PEM.
    """
    _library()
    _algorithm(options)


def sign(path: Path, options: SigningOptions, title: str, settings: Mapping[str, str]) -> None:
    """Sign a complete file in place, and verify the result with the certificate's own root as anchor.

    Args:
        path: an MP4, GIF, WebP, PNG or JPEG.
        options: certificate, key and source files.
        title: name of the file in the manifest.
        settings: metadata of the video; the manifest repeats those of FashionFlow.

    Raises:
        FashionFlowError: as `check`; or the signature does not verify, such as with an expired certificate.
    """
    library: Any = _library()
    chain, key, algorithm = _algorithm(options)
    anchors = {"trust": {"trust_anchors": _last(chain)}, **_OFFLINE}
    anchors["verify"] = {**_OFFLINE["verify"], "verify_trust": True}
    with scratch_folder(path) as folder:
        signed = folder / path.name
        try:
            context = library.Context(
                settings=library.Settings.from_dict({**anchors, "builder": {"thumbnail": {"enabled": False}}})
            )
            info = library.C2paSignerInfo(alg=algorithm, sign_cert=chain, private_key=key, ta_url=None)
            manifest = _manifest(title, settings)
            with library.Signer.from_info(info) as signer, library.Builder(manifest, context) as builder:
                for source in options.sources:
                    _add_source(builder, Path(source))
                builder.sign_file(path, signed, signer)
            state, codes, _ = _read(signed, anchors)
        except library.C2paError as error:
            reason = " ".join(str(error).split())[:200]
            raise FashionFlowError(f"{title}: cannot be signed ({reason})", hint=_hint()) from None
        if state != "Trusted":
            raise FashionFlowError(f"{title}: its signature does not verify ({', '.join(codes)})", hint=_hint())
        signed.replace(path)


def state_of(path: Path) -> str:
    """A file's signature in words; empty: it has none. The certificate is not looked up in any list.

    Raises:
        FashionFlowError: the file cannot be read.
    """
    if not _has_manifest(path):
        return ""
    try:
        library: Any = _library()
    except FashionFlowError as error:
        return f"present, not verified: {error.hint}"
    try:
        state, codes, signer = _read(path, _OFFLINE)
    except library.C2paError as error:
        return f"invalid ({' '.join(str(error).split())[:100]})"
    if state == "Invalid":
        return f"invalid: {', '.join(codes)}"
    return f"valid, signed by {signer}; the certificate was not compared with a list of trusted ones"


def _read(path: Path, settings: dict[str, Any]) -> tuple[str, list[str], str]:
    """State of a signed file, the codes of what is wrong, and who signed."""
    library: Any = _library()
    with library.Reader(str(path), context=library.Context(settings=library.Settings.from_dict(settings))) as reader:
        found = json.loads(reader.json())
    codes = [str(one.get("code")) for one in found.get("validation_status", [])]
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    about = active.get("signature_info") or {}
    names = [about[key] for key in ("common_name", "issuer") if about.get(key)]
    problems = [code for code in codes if code != _UNTRUSTED] or codes
    return str(found.get("validation_state")), problems, " of ".join(names) or "an unnamed certificate"


def _manifest(title: str, settings: Mapping[str, str]) -> str:
    from fashionflow_core import __version__

    program = {"name": "FashionFlow", "version": __version__}
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": program}
    made = {key: value for key, value in settings.items() if key.startswith("fashionflow_")}
    assertions = [
        {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
        {"label": "org.fashionflow.generation", "data": made},
    ]
    return json.dumps({"claim_generator_info": [program], "title": title, "assertions": assertions})


def _add_source(builder: Any, source: Path) -> None:
    """Name a photo or video in the manifest; files of a kind that C2PA does not support (such as WebM) are left out."""
    with source.open("rb") as file:
        mime = _mime(file.read(16))
        file.seek(0)
        if mime:
            builder.add_ingredient({"title": source.name, "relationship": "inputTo"}, mime, file)


def _mime(head: bytes) -> str:
    """Media type by the first 16 bytes; empty: of no kind that C2PA knows."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "image/avif"
        if brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
            return "image/heic"
        return "video/quicktime" if brand == b"qt  " else "video/mp4"
    if head.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"AVI ": "video/avi"}.get(head[8:12], "")
    kinds = {b"\xff\xd8": "jpeg", b"\x89PNG": "png", b"GIF8": "gif", b"II*\0": "tiff", b"MM\0*": "tiff"}
    return next((f"image/{kind}" for start, kind in kinds.items() if head.startswith(start)), "")


def _has_manifest(path: Path) -> bool:
    """Whether an MP4, GIF, WebP, JPEG or PNG has a place for a manifest that is not empty."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp":
            for box in boxes.walk(file):
                file.seek(box.start)
                if box.kind == b"uuid" and file.read(16) == _MP4_BOX:
                    return True
            return False
        if head.startswith(b"\x1aE\xdf\xa3"):
            return False
        file.seek(0)
        # GIF: an application extension; WebP: a chunk; JPEG: an APP11 segment; PNG: a chunk. All hold a JUMBF box.
        before = b""
        while piece := file.read(1 << 20):
            if b"jumdc2pa" in before + piece:
                return True
            before = piece[-16:]
    return False


def _algorithm(options: SigningOptions) -> tuple[bytes, bytes, Any]:
    """Certificate chain and key as PEM, and the algorithm for that kind of key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kinds = _library().C2paSigningAlg
    chain, key = (_pem(file) for file in (options.cert, options.key))
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise FashionFlowError(f"{options.cert}: not a certificate chain in PEM", hint=_hint()) from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        convert = f"convert it: openssl pkcs8 -topk8 -nocrypt -in {options.key}"
        raise FashionFlowError(f"{options.key}: not an unencrypted private key in PEM", hint=convert) from None
    public = [
        one.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for one in (certificates[0].public_key(), private.public_key())
    ]
    if public[0] != public[1]:
        raise SettingError(
            "c2pa_key", f"{options.key} is not the key of the first certificate in {options.cert}", hint=_hint()
        )
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return chain, key, kinds.ED25519
    if isinstance(private, rsa.RSAPrivateKey):
        return chain, key, kinds.PS256
    curves = {"secp256r1": kinds.ES256, "secp384r1": kinds.ES384, "secp521r1": kinds.ES512}
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        return chain, key, curves[private.curve.name]
    raise FashionFlowError(f"{options.key}: unsupported kind of key", hint="use P-256, Ed25519 or RSA")


def _pem(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise FashionFlowError(f"{file}: {reason_of(error)}", hint="name a PEM file") from None


def _last(chain: bytes) -> str:
    """The last certificate of a chain: its root."""
    start = b"-----BEGIN CERTIFICATE-----"
    return (start + chain.rpartition(start)[2]).decode("ascii", "replace")


def _hint() -> str:
    cert = option("c2pa_cert")
    return f"{cert} is the signer's certificate and those above it: docs/guides/marking.md shows how to make it"


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise FashionFlowError("C2PA needs the package c2pa-python", hint=extras.install("c2pa")) from None
    return c2pa
