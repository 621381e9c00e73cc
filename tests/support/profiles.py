"""ICC profiles written byte by byte (ICC.1:2001-04), and the same colours worked out by plain arithmetic."""

import struct

import numpy as np

# xy chromaticities of the primaries. White is D65 in all three.
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D65, D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# What each ink, printed full, leaves of linear sRGB: cyan, magenta, yellow, black.
INKS = np.array([[0.05, 0.35, 0.60], [0.60, 0.06, 0.25], [0.90, 0.75, 0.06], [0.03, 0.03, 0.03]])
GRID = 9


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The 3x3 matrix from linear RGB to XYZ under D65."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def to_d50() -> np.ndarray:
    """Bradford's adaptation of XYZ from D65 to D50."""
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ D65)) @ BRADFORD


def srgb_bytes(linear: np.ndarray) -> np.ndarray:
    """Linear sRGB as rounded bytes, what is out of gamut clipped."""
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def rgb_as_srgb(pixels: np.ndarray, primaries: tuple[tuple[float, float], ...], gamma: float) -> np.ndarray:
    """What bytes in the space of `rgb_profile` look like in sRGB."""
    return srgb_bytes((pixels / 255) ** gamma @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T)


def grey_as_srgb(pixels: np.ndarray, gamma: float) -> np.ndarray:
    return srgb_bytes((pixels / 255) ** gamma)


def inks_linear(inks: np.ndarray) -> np.ndarray:
    """Linear sRGB of inks `(..., 4)`, 0 to 1: each lets through its share of what is left."""
    return np.prod(1 - inks[..., :, None] * (1 - INKS), axis=-2)


def _tag(kind: bytes, body: bytes) -> bytes:
    return kind + bytes(4) + body


def _fixed(values: np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in np.ravel(values))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made for a test\0"
    tags = {
        b"desc": _tag(b"desc", struct.pack(">I", len(name)) + name + bytes(78)),
        b"cprt": _tag(b"text", b"none\0"),
        b"wtpt": _tag(b"XYZ ", _fixed(D50)),
        **tags,
    }
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(data), b"none", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _gamma(value: float) -> bytes:
    return _tag(b"curv", struct.pack(">IH", 1, round(value * 256)))


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """A monitor's: three colorants and one curve."""
    colorants = (to_d50() @ to_xyz(primaries)).T
    tags = {name: _tag(b"XYZ ", _fixed(xyz)) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma)))


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk_profile() -> bytes:
    """A printer's: a table of L*a*b* over `GRID` steps of each of the inks of `inks_linear`."""
    steps = np.linspace(0, 1, GRID)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), axis=-1)
    xyz = inks_linear(inks) @ (to_d50() @ to_xyz(SRGB)).T / D50
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    table = np.rint(np.stack([lab[..., 0] * 652.8, (lab[..., 1] + 128) * 256, (lab[..., 2] + 128) * 256], axis=-1))
    line = struct.pack(">HH", 0, 65535)
    body = struct.pack(">BBBx", 4, 3, GRID) + _fixed(np.eye(3)) + struct.pack(">HH", 2, 2) + 4 * line
    return _profile(
        b"prtr", b"CMYK", b"Lab ", {b"A2B0": _tag(b"mft2", body + table.astype(">u2").tobytes() + 3 * line)}
    )
