"""`fashionflow generate` in a process of its own: files, streams, exit codes, repeatability, interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import assert_refused, environment, run, started, wait_until
from PIL import Image
from tiny import build_tiny_model

from fashionflow_core import video

PURPOSE = "tiny random weights for tests"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shop(tmp_path: Path, golden: Path) -> Path:
    """A folder with one photo in it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    shutil.copy(golden / "blue.jpg", folder / "dress.jpg")
    return folder


def _names(folder: Path) -> list[str]:
    """All files, those with a dot in front too."""
    return sorted(os.listdir(folder))


def test_one_photo_one_video(shop: Path, tiny: Path) -> None:
    result = run("generate", "dress.jpg", "--model", tiny, "--seed", "3", "--poster", cwd=shop)
    assert (result.returncode, result.stdout) == (0, "dress.mp4\n"), result.stderr
    assert PURPOSE in result.stderr and "denoising" in result.stderr and "decoding" in result.stderr
    assert "Warning" not in result.stderr
    assert _names(shop) == ["dress-poster.png", "dress.jpg", "dress.mp4"]
    info = video.probe(shop / "dress.mp4")
    # 64x48, less the bars beside a photo of 550x440, which fills 60x48.
    assert (info.frames, info.height, info.width, info.fps) == (4, 60, 48, 25)
    metadata = video.read_metadata(shop / "dress.mp4")
    assert (metadata["fashionflow_model"], metadata["fashionflow_seed"]) == ("tiny", "3")
    poster = np.asarray(Image.open(shop / "dress-poster.png"))
    # These frames are noise, whose colours a video cannot hold: the poster as a video of its own loses as much.
    video.write([poster], shop / "poster.mp4", fps=25, count=1)
    expected, frames = video.read(shop / "poster.mp4")[0], video.read(shop / "dress.mp4")
    distances = np.abs(frames.astype(int) - expected).mean(axis=(1, 2, 3))
    nearest = int(distances.argmin())
    assert nearest > 0, "the first frame is the photo"
    assert distances[nearest] < 4 and np.delete(distances, nearest).min() > 4 * distances[nearest], distances


def test_variations_are_numbered_reported_and_repeatable(shop: Path, tiny: Path) -> None:
    common = ("generate", "dress.jpg", "--model", tiny, "--seed", "7")
    result = run(*common, "--variations", "3", "-o", "v.mp4", "--json", "--quiet", cwd=shop)
    assert (result.returncode, result.stderr) == (0, "")
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["path"] for report in reports] == ["v-1.mp4", "v-2.mp4", "v-3.mp4"]
    assert [(report["seed"], report["item"]) for report in reports] == [(7, 0), (7, 1), (7, 2)]
    assert _names(shop) == ["dress.jpg", "v-1.mp4", "v-2.mp4", "v-3.mp4"]
    for report in reports:
        info = video.probe(shop / report["path"])
        assert (report["frames"], report["height"], report["width"], report["fps"]) == (
            *(info.frames, info.height, info.width),
            info.fps,
        )
        assert (report["model"], report["scheduler"], report["steps"]) == ("tiny", "ddim", 2)
        assert report["poster"] is None
        assert report["seconds"].keys() == {"load", "denoise", "decode"}
        assert all(seconds >= 0 for seconds in report["seconds"].values())
    films = [(shop / report["path"]).read_bytes() for report in reports]
    assert len(set(films)) == 3
    # The same seed and item give the same bytes, alone or beside others, by flags or by environment.
    env = {"FASHIONFLOW_MODEL": str(tiny), "FASHIONFLOW_SEED": "7", "FASHIONFLOW_QUIET": "1"}
    alone = run("generate", "dress.jpg", "-o", "alone.mp4", "--json", cwd=shop, env=env)
    assert (alone.returncode, alone.stderr) == (0, "") and json.loads(alone.stdout)["seed"] == 7
    assert (shop / "alone.mp4").read_bytes() == films[0]


def test_options_reach_the_video(shop: Path, tiny: Path) -> None:
    result = run(
        *("generate", "dress.jpg", "--model", tiny, "-o", "a.mp4", "--frames", "6", "--fps", "12.5", "--steps", "3"),
        *("--scheduler", "dpm++", "--fit", "crop", "--size", "64x48", "--device", "cpu", "--dtype", "bf16"),
        *("--decode-chunk", "1", "--json"),
        cwd=shop,
    )
    assert result.returncode == 0, result.stderr
    report, info = json.loads(result.stdout), video.probe(shop / "a.mp4")
    assert (info.frames, info.fps, info.height, info.width) == (6, 12.5, 64, 48)
    assert (report["scheduler"], report["steps"]) == ("dpm++", 3)


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--size", "640x512"], 2, ["--size", "640x512", "64x48"]),
        (["--frames", "3"], 2, ["--frames", "3"]),
    ],
)
def test_what_the_model_cannot_do(shop: Path, tiny: Path, flags: list[str], code: int, words: list[str]) -> None:
    assert_refused(run("generate", "dress.jpg", "-m", tiny, "--quiet", *flags, cwd=shop), code, *words)
    assert _names(shop) == ["dress.jpg"]


# What fails in a fresh process before it has imported torch.
LIGHT = """
import sys
from fashionflow_cli.main import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "torch was imported for nothing"
"""


def _existing(folder: Path) -> None:
    (folder / "dress.mp4").write_bytes(b"an older video")


def _existing_poster(folder: Path) -> None:
    (folder / "dress-2-poster.png").write_bytes(b"an older poster")


def _damaged(folder: Path) -> None:
    (folder / "dress.jpg").write_bytes((folder / "dress.jpg").read_bytes()[:2000])


def _nothing(_folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    "prepare, arguments, code, words",
    [
        (_existing, ["dress.jpg"], 1, ["dress.mp4", "exists"]),
        (_existing_poster, ["dress.jpg", "--variations", "2", "--poster"], 1, ["dress-2-poster.png", "exists"]),
        (_nothing, ["dress.jpg", "-o", "no/such/a.mp4"], 1, ["no/such"]),
        (_nothing, ["dress.jpg", "-o", "a.avi"], 2, ["a.avi"]),
        (_nothing, ["dress.jpg", "-o", "a" * 300 + ".mp4"], 1, ["too long"]),
        (_nothing, ["."], 2, ["--out", "folder"]),
        (_nothing, ["nobody.jpg"], 1, ["nobody.jpg"]),
        (_damaged, ["dress.jpg"], 1, ["dress.jpg", "damaged"]),
        (_nothing, ["dress.jpg", "--fps", "1e6"], 2, ["--fps"]),
    ],
)
def test_refused_before_any_work(
    shop: Path, tiny: Path, prepare: Callable[[Path], None], arguments: list[str], code: int, words: list[str]
) -> None:
    prepare(shop)
    before = {name: (shop / name).read_bytes() for name in _names(shop)}
    result = subprocess.run(
        [sys.executable, "-c", LIGHT, "generate", *arguments, "--model", str(tiny)],
        cwd=shop,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused(result, code, *words)
    assert {name: (shop / name).read_bytes() for name in _names(shop)} == before


def test_the_photo_is_never_replaced(shop: Path, tiny: Path) -> None:
    """A photo may have any name; its content decides."""
    (shop / "dress.jpg").rename(shop / "dress.mp4")
    photo = (shop / "dress.mp4").read_bytes()
    assert_refused(run("generate", "dress.mp4", "-m", tiny, "--overwrite", cwd=shop), 2, "would replace its own source")
    assert (shop / "dress.mp4").read_bytes() == photo


def test_file_names_of_any_bytes(shop: Path, tiny: Path) -> None:
    name = b"robe d'\xe9t\xe9 \xff"
    os.rename(os.fsencode(shop) + b"/dress.jpg", os.fsencode(shop) + b"/" + name + b".jpg")
    result = run("generate", os.fsdecode(name + b".jpg"), "-m", tiny, "--quiet", cwd=shop)
    assert (result.returncode, os.fsencode(result.stdout), result.stderr) == (0, name + b".mp4\n", "")
    assert os.path.exists(os.fsencode(shop) + b"/" + name + b".mp4")


# The moments to interrupt at, by what can be seen from outside: stderr while loading, files while writing.
MOMENTS = {
    "loading": (["--steps", "1000", "--scheduler", "ddpm"], lambda folder, text: "loading" in text),
    "denoising": (["--steps", "1000", "--scheduler", "ddpm"], lambda folder, text: "denoising" in text),
    "writing": (
        ["--frames", "600", "--steps", "1", "--decode-chunk", "1"],
        lambda folder, text: any(name.startswith(".") for name in _names(folder)),
    ),
}


@pytest.mark.parametrize(
    "moment, signum, code",
    [
        ("loading", signal.SIGINT, 130),
        ("loading", signal.SIGTERM, 143),
        ("denoising", signal.SIGTERM, 143),
        ("writing", signal.SIGINT, 130),
    ],
)
def test_interrupted_leaves_nothing(shop: Path, tiny: Path, moment: str, signum: int, code: int) -> None:
    flags, reached = MOMENTS[moment]
    log = shop.parent / "log"
    with started("generate", "dress.jpg", "-m", tiny, "--poster", *flags, cwd=shop, log=log) as process:
        wait_until(lambda: reached(shop, log.read_text()), process, log)
        process.send_signal(signum)
        assert process.wait(timeout=60) == code, log.read_text()
    assert "Traceback" not in log.read_text() and "error" not in log.read_text()
    assert "dress.mp4" not in log.read_text()
    assert _names(shop) == ["dress.jpg"]
