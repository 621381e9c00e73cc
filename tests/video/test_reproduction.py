"""The command that `inspect` prints makes the same file again, byte for byte."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from places import ROOT
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions
from fashionflow_core.video import reproduction

PHOTO = ROOT / "examples" / "dress.jpg"
SMALL = ("--size", "160x128", "--frames", "4", "--steps", "2")


def _again(place: Path, name: str, **files: str) -> None:
    """Run the command that a file names; `files` stand for its PHOTO and VIDEO."""
    first = (place / name).read_bytes()
    found = json.loads(run("inspect", name, "--json", cwd=place).stdout)
    command = found["again"]
    assert command in run("inspect", name, cwd=place).stdout
    for word, file in files.items():
        command = command.replace(word, file)
    done = run(*shlex.split(command)[1:], "--overwrite", "-q", cwd=place)
    assert done.returncode == 0, (command, done.stderr)
    assert (place / name).read_bytes() == first, command


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "out", "options"),
    [
        ("v-2.mp4", "v.mp4", ("--variations", "2", "--loop", "--motion-amount", "20", "--seed", "7")),
        ("v.mp4", "v.mp4", ("--crf", "30", "--codec", "hevc", "--no-mark", "--fps", "12.5")),
        ("v.webm", "v.webm", ("--crf", "40", "--motion", "sway")),
        ("v.tiktok.mp4", "v.mp4", ("--for", "tiktok,gif", "--ratio", "4:5", "--crf", "28", "--visible-mark", "AI $x")),
        ("v.gif", "v.gif", ("--for", "gif", "--caption", "Dress '{name}'")),
        ("v.webp", "v.webp", ("--fit", "crop")),
    ],
)
def test_generate(place: Path, name: str, out: str, options: tuple[str, ...]):
    done = run("generate", "dress.jpg", "-o", out, *SMALL, *options, cwd=place)
    assert done.returncode == 0, done.stderr
    _again(place, name, PHOTO="dress.jpg")


@pytest.mark.slow
def test_generate_with_a_background_and_a_matte(place: Path):
    pixels = np.asarray(Image.open(PHOTO).convert("RGBA")).copy()
    pixels[:60, :, 3] = 0
    Image.fromarray(pixels).save(place / "dress.png")
    matte = np.zeros(pixels.shape[:2], np.uint8)
    matte[100:-40, 200:-200] = 255
    Image.fromarray(matte).save(place / "matte.png")
    options = ("--background", "#c0d0e0", "--matte", "matte.png")
    done = run("generate", "dress.png", "-o", "v.mp4", *SMALL, *options, cwd=place)
    assert done.returncode == 0, done.stderr
    _again(place, "v.mp4", PHOTO="dress.png")


@pytest.mark.slow
def test_interpolate_and_lock(place: Path):
    assert run("generate", "dress.jpg", "-o", "v.mp4", *SMALL, "--crf", "20", cwd=place).returncode == 0
    model = build_tiny_model(place / "tiny", known_content="rgb", modes=("generate", "interpolate"))
    done = run("interpolate", "v.mp4", "-m", model, "-o", "i.mp4", "--fps", "10", "--seed", "3", cwd=place)
    assert done.returncode == 0, done.stderr
    _again(place, "i.mp4", VIDEO="v.mp4", tiny="./tiny")
    level = ("--level", "colour", "--crf", "25")
    done = run("lock", "v.mp4", "--photo", "dress.jpg", "-o", "l.mp4", *level, cwd=place)
    assert done.returncode == 0, done.stderr
    _again(place, "l.mp4", VIDEO="v.mp4", PHOTO="dress.jpg")


@pytest.mark.slow
def test_a_video_of_a_catalogue_has_the_same_frames(place: Path):
    """Its file has a fingerprint besides, by which the catalogue knows it."""
    (place / "photos").mkdir()
    shutil.copy(PHOTO, place / "photos" / "dress.jpg")
    done = run("generate", "photos", "-o", "out", *SMALL, "--no-scores", "--ratio", "1:1", cwd=place)
    assert done.returncode == 0, done.stderr
    again = json.loads(run("inspect", "out/dress.mp4", "--json", cwd=place).stdout)["again"]
    done = run(*shlex.split(again.replace("PHOTO", "dress.jpg"))[1:], cwd=place)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(video.read(place / "dress.mp4"), video.read(place / "out" / "dress.mp4"))


def test_encoding_states_what_is_not_the_default():
    assert reproduction.encoding(EncodeOptions()) == {}
    assert reproduction.encoding(EncodeOptions(crf=0, codec="hevc", encoder="hevc_nvenc")) == {
        "fashionflow_crf": "0",
        "fashionflow_codec": "hevc",
        "fashionflow_encoder": "hevc_nvenc",
    }


def test_settings_of_foreign_files_are_words_of_a_shell(tmp_path: Path):
    evil = "x; rm -rf $(pwd) '"
    for command in ("generate", "interpolate", "lock", evil):
        stored = dict.fromkeys(("seed", "item", "interpolate", "frames"), "9" * 5000)
        stored |= dict.fromkeys(("model", "steps", "scheduler", "lock", "crf", "fps", "background"), evil)
        line = reproduction.again(tmp_path / "v.mp4", stored | {"command": command}, 8, 10.0, (48, 64), True)
        assert line.count("rm -rf") == line.count(shlex.quote(evil)) > 0
        assert line.startswith(
            ("fashionflow generate PHOTO", "fashionflow interpolate VIDEO", "fashionflow lock VIDEO")
        )
    assert reproduction.again(tmp_path / "v.mp4", {"model": "mini"}, 8, 10.0, (48, 64), True) == ""
