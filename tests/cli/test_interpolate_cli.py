"""`fashionflow interpolate`, `generate --interpolate`, `--lora` and `models merge` as their users meet them."""

import json
import signal
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from command import assert_refused, run, started, wait_until
from test_generate_options import schema
from tiny import build_tiny_model, seeded

from fashionflow_core import video
from fashionflow_core.runtimes.lora import add_lora, save_lora
from fashionflow_core.runtimes.torch import load


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return build_tiny_model(folder, known_content="rgb", modes=("generate", "interpolate"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with in.mp4: seven frames of 96x72, a bar that moves."""
    frames = np.full((7, 96, 72, 3), 200, np.uint8)
    for number, frame in enumerate(frames):
        frame[20:80, 8 * number : 8 * number + 16] = (180, 30, 40)
    video.write(iter(frames), tmp_path / "in.mp4", 12.5, 7)
    return tmp_path


def test_a_video_gets_frames_in_between(place: Path, tiny: Path):
    result = run("interpolate", "in.mp4", "-m", tiny, "--json", "--frames-dir", "frames", cwd=place)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, schema("interpolate"))
    info = video.probe(place / "in-x2.mp4")
    assert (info.frames, info.fps, info.height, info.width) == (13, 25, 64, 48)
    assert (report["given"], report["frames"], report["path"], report["model"]) == (7, 13, "in-x2.mp4", "tiny")
    assert len(list((place / "frames").glob("*.png"))) == 13
    # It says that it cannot keep the size.
    assert "warning: in.mp4: 96x72 is resized to the 64x48 of model tiny" in result.stderr
    assert video.read_metadata(place / "in-x2.mp4")["fashionflow_interpolate"] == "2"


@pytest.mark.slow
def test_slow_motion_webm_and_the_same_seed(place: Path, tiny: Path):
    for name in ("a.webm", "b.webm"):
        arguments = ("--factor", "4", "--fps", "12.5", "--frames", "6", "--seed", "5", "--quiet", "-o", name)
        result = run("interpolate", "in.mp4", "-m", tiny, *arguments, cwd=place)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{name}\n", "")
    assert (video.probe(place / "a.webm").frames, video.probe(place / "a.webm").fps) == (25, 12.5)
    assert (place / "a.webm").read_bytes() == (place / "b.webm").read_bytes()


def test_the_plan_is_told_and_nothing_made(place: Path, tiny: Path):
    result = run("interpolate", "in.mp4", "-m", tiny, "--dry-run", "--json", cwd=place)
    plan = json.loads(result.stdout)
    assert (plan["frames"], plan["fps"], plan["interpolate"], plan["clips"]) == (13, 25, 2, 6)
    assert plan["unet_calls"] == 6 * plan["steps"]
    assert [path.name for path in place.iterdir()] == ["in.mp4"]


@pytest.mark.slow
def test_generate_with_frames_in_between(place: Path, tiny: Path, golden: Path):
    arguments = ("generate", golden / "blue.jpg", "-m", tiny, "--interpolate", "2", "--json", "-o", "out.mp4")
    result = run(*arguments, cwd=place)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["frames"], report["fps"]) == (7, 50) == (video.probe(place / "out.mp4").frames, 50)
    plan = json.loads(run(*arguments[:-2], "--dry-run", "-o", "plan.mp4", cwd=place).stdout)
    assert (plan["frames"], plan["fps"], plan["clips"]) == (7, 50, 1 + 3)


def test_one_settings_file_serves_both_commands(place: Path, tiny: Path):
    (place / "shop.yaml").write_text("steps: 1\nposter: true\nguidance: 1\nfactor: 2\n")
    env = {"FASHIONFLOW_CONFIG": "shop.yaml", "FASHIONFLOW_MODEL": str(tiny)}
    result = run("interpolate", "in.mp4", "--json", cwd=place, env=env)
    assert json.loads(result.stdout)["steps"] == 1, result.stderr
    (place / "shop.yaml").write_text("stepps: 1\n")
    assert_refused(run("interpolate", "in.mp4", cwd=place, env=env), 2, "shop.yaml: unknown option stepps")


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "no such file": (["none.mp4"], 1, "none.mp4: unreadable"),
    "not a video": (["text.mp4"], 1, "text.mp4: not a video"),
    "one frame": (["one.mp4"], 1, "one.mp4: a single frame"),
    "cut off": (["cut.mp4"], 1, "cut.mp4: is cut off"),
    "factor": (["in.mp4", "--factor", "3"], 2, "--factor: must be 2 or 4"),
    "rate": (["in.mp4", "--fps", "0"], 2, "--fps: must be above 0"),
    "itself": (["in.mp4", "-o", "in.mp4", "--overwrite"], 2, "in.mp4: would replace its own source"),
    "exists": (["in.mp4", "-o", "one.mp4"], 1, "one.mp4: already exists"),
    "suffix": (["in.mp4", "-o", "out.png"], 2, "out.png does not end in"),
    "window": (["in.mp4", "--frames", "3"], 2, "--frames: 3 is not a multiple of 2"),
    "short window": (["in.mp4", "--frames", "2"], 2, "a window of 2 is too short for two frames"),
    "no LoRA": (["in.mp4", "--lora", "none"], 1, "none: not a LoRA"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(place: Path, tiny: Path, name: str):
    (place / "text.mp4").write_text("this is no video")
    video.write(iter(np.zeros((1, 64, 48, 3), np.uint8)), place / "one.mp4", 25, 1)
    (place / "cut.mp4").write_bytes((place / "in.mp4").read_bytes()[:-200])
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    arguments, code, line = REFUSED[name]
    assert_refused(run("interpolate", *arguments, "-m", tiny, "--quiet", cwd=place), code, line)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_models_that_cannot_are_refused(place: Path, plain: Path):
    result = run("interpolate", "in.mp4", "-m", plain, "--quiet", cwd=place)
    assert_refused(result, 2, "model tiny was not trained for interpolation")


# ---- LoRA


@pytest.fixture(scope="module")
def lora(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    unet: Any = load(plain, torch.device("cpu"), torch.float32).unet
    with seeded(0):
        add_lora(unet, 4, 8, ("to_q", "to_v"))
        for name, weight in unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    return save_lora(unet, tmp_path_factory.mktemp("lora") / "dresses", "tiny")


@pytest.mark.slow
def test_generate_with_a_lora_is_generate_with_the_merged_model(place: Path, plain: Path, lora: Path, golden: Path):
    merged = run("models", "merge", plain, lora, "-o", "merged", cwd=place)
    assert (merged.returncode, merged.stdout) == (0, "merged\n"), merged.stderr
    videos = {}
    for name, options in {
        "plain": ["-m", plain],
        "lora": ["-m", plain, "--lora", lora],
        "merged": ["-m", "merged"],
    }.items():
        result = run("generate", golden / "blue.jpg", *options, "-o", f"{name}.mp4", "--json", cwd=place)
        assert result.returncode == 0, result.stderr
        videos[name] = video.read(place / f"{name}.mp4")
        assert json.loads(result.stdout)["model"] == ("tiny+dresses" if name == "lora" else "tiny")
    assert np.array_equal(videos["lora"], videos["merged"])
    assert np.abs(videos["lora"].astype(int) - videos["plain"]).mean() > 1


@pytest.mark.slow
def test_merge_replaces_nothing_unasked_and_refuses_what_is_no_lora(place: Path, plain: Path, lora: Path):
    (place / "there").mkdir()
    (place / "there" / "keep.txt").write_text("keep")
    assert_refused(run("models", "merge", plain, lora, "-o", "there", cwd=place), 1, "there")
    assert_refused(run("models", "merge", plain, lora, "-o", "there", "--overwrite", cwd=place), 1, "there")
    assert (place / "there" / "keep.txt").read_text() == "keep"
    assert_refused(run("models", "merge", plain, plain, "-o", "new", cwd=place), 1, "not a LoRA")
    assert_refused(run("models", "merge", "nonsense", lora, "-o", "new", cwd=place), 1, "nonsense")
    assert not (place / "new").exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_on_the_way_it_leaves_no_video(place: Path, tiny: Path, signum: int, code: int):
    log = place.parent / "log"
    with started(
        "interpolate", "in.mp4", "-m", tiny, "--steps", "500", "-o", "out.mp4", "--frames-dir", "f", cwd=place, log=log
    ) as process:
        wait_until(lambda: b"denoising" in log.read_bytes(), process, log)
        process.send_signal(signum)
        assert process.wait(60) == code, log.read_text()
    left = {path.name for path in place.iterdir() if not path.name.startswith(".")}
    assert left == {"in.mp4"}
