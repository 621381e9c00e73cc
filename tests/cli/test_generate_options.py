"""The options of `fashionflow generate` as scripts use them: formats, plans, warnings, JSON as documented."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from command import assert_refused, run
from PIL import Image
from places import ROOT
from tiny import build_tiny_model

from fashionflow_core import video

SCHEMAS = ROOT / "docs" / "reference" / "schemas"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shop(tmp_path: Path, golden: Path) -> Path:
    shutil.copy(golden / "blue.jpg", tmp_path / "dress.jpg")
    return tmp_path


def schema(name: str) -> dict[str, Any]:
    """A JSON Schema of the documentation."""
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def made(shop: Path, tiny: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    result = run("generate", "dress.jpg", "--model", tiny, "--json", "--quiet", *arguments, cwd=shop)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "arguments", "codec"),
    [
        ("a.mp4", [], "h264"),
        ("a.mp4", ["--codec", "av1", "--crf", "40"], "av1"),
        ("a.webm", [], "vp9"),
        ("a.gif", [], "gif"),
        ("a.webp", [], "webp"),
    ],
)
def test_the_suffix_chooses_the_video_and_json_says_what_was_made(
    shop: Path, tiny: Path, name: str, arguments: list[str], codec: str
) -> None:
    (report,) = made(shop, tiny, "-o", name, "--poster", "--frames-dir", "frames", *arguments)
    jsonschema.validate(report, schema("generate"))
    info = video.probe(shop / name)
    assert report["codec"] == codec == info.codec
    assert (report["frames"], report["height"], report["width"]) == (info.frames, info.height, info.width)
    pictures = sorted((shop / "frames").iterdir())
    assert [path.name for path in pictures] == [f"frame-{n:04d}.png" for n in range(1, info.frames + 1)]
    poster = np.asarray(Image.open(shop / "a-poster.png"))
    same = [np.array_equal(np.asarray(Image.open(picture)), poster) for picture in pictures]
    assert any(same) and not same[0]


def test_json_of_a_plan_and_of_models_is_as_documented(shop: Path, tiny: Path) -> None:
    (plan,) = made(shop, tiny, "--dry-run", "--variations", "2", "--poster")
    jsonschema.validate(plan, schema("dry-run"))
    assert plan["files"] == ["dress-1.mp4", "dress-1-poster.png", "dress-2.mp4", "dress-2-poster.png"]
    assert plan["unet_calls"] == plan["steps"] == len(plan["timesteps"]) == 2
    assert plan["tflop"]["total"] == pytest.approx(sum(v for k, v in plan["tflop"].items() if k != "total"))
    assert sorted(path.name for path in shop.iterdir()) == ["dress.jpg"], "a dry run writes nothing"
    listed = run("models", "list", "--json", cwd=shop)
    jsonschema.validate(json.loads(listed.stdout), schema("models"))


def test_a_plan_for_people_is_files_size_and_time(shop: Path, tiny: Path) -> None:
    plan = run("generate", "dress.jpg", "--model", tiny, "--dry-run", "--variations", "2", "-q", cwd=shop)
    assert plan.returncode == 0, plan.stderr
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in plan.stdout.splitlines())
    assert list(rows) == ["files", "size", "time", "model"]
    assert rows["files"] == "dress-1.mp4, dress-2.mp4" and "48x60 pixels" in rows["size"] and "4 frames" in rows["size"]
    assert re.fullmatch(r"about \d+ s \(2 videos of \d+ s\), after the model is open", rows["time"])


def test_a_plan_is_what_then_happens(shop: Path, tiny: Path) -> None:
    arguments = ("--steps", "3", "--frames", "6", "--scheduler", "euler", "--fps", "10")
    (plan,) = made(shop, tiny, "--dry-run", *arguments)
    (report,) = made(shop, tiny, *arguments)
    for field in ("model", "frames", "height", "width", "fps", "scheduler", "steps", "seed"):
        assert plan[field] == report[field], field


def test_a_dry_run_refuses_what_the_run_would_refuse(shop: Path, tiny: Path) -> None:
    (shop / "dress.mp4").write_bytes(b"mine")
    for arguments, word in (([], "already exists"), (["-o", "b.mp4", "--frames", "3"], "--frames")):
        assert_refused_after_loading(
            run("generate", "dress.jpg", "--model", tiny, "--dry-run", "-q", *arguments, cwd=shop), word
        )
    assert (shop / "dress.mp4").read_bytes() == b"mine"


def assert_refused_after_loading(result: Any, word: str) -> None:
    assert result.returncode in (1, 2) and result.stdout == "" and word in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_what_a_model_was_not_trained_for_is_refused_in_one_line(shop: Path, tiny: Path) -> None:
    for arguments, words in (
        (["--guidance", "3"], ["--guidance", "tiny", "dropped context"]),
        (["--conditioning", "local"], ["--conditioning", "tiny", "local"]),
    ):
        assert_refused(run("generate", "dress.jpg", "--model", tiny, "-q", *arguments, cwd=shop), 2, *words)
    assert sorted(path.name for path in shop.iterdir()) == ["dress.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codec", "vp9"], ["--codec", "vp9", "dress.mp4"]),
        (["-o", "a.webm", "--codec", "h264"], ["--codec", "h264", "a.webm"]),
        (["-o", "a.gif", "--crf", "20"], ["--crf", "a.gif"]),
        (["--crf", "60"], ["--crf", "51"]),
        (["--encoder", "magic"], ["--encoder", "magic"]),
        (["--background", "nocolour"], ["--background", "nocolour"]),
        (["--background", "#11223344"], ["--background", "transparent"]),
        (["--guidance-interval", "0.8,0.2"], ["--guidance-interval"]),
        (["--guidance-interval", "most"], ["--guidance-interval", "LOW,HIGH"]),
        (["--guidance", "0.5"], ["--guidance"]),
        (["--max-megapixels", "0"], ["--max-megapixels"]),
    ],
)
def test_impossible_options_are_refused_before_any_work(shop: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(run("generate", "dress.jpg", *arguments, cwd=shop), 2, *words)
    assert sorted(path.name for path in shop.iterdir()) == ["dress.jpg"]


def test_frames_go_into_a_new_folder_or_none(shop: Path, tiny: Path) -> None:
    (shop / "mine").mkdir()
    (shop / "mine" / "notes.txt").write_text("keep me")
    result = run("generate", "dress.jpg", "--frames-dir", "mine", "--overwrite", cwd=shop)
    assert_refused(result, 1, "mine", "notes.txt")
    made(shop, tiny, "--variations", "2", "--frames-dir", "frames")
    assert sorted(path.name for path in shop.iterdir() if path.is_dir()) == ["frames-1", "frames-2", "mine"]


def test_transparent_parts_lie_on_the_background(shop: Path, tiny: Path) -> None:
    Image.new("RGBA", (480, 600), (0, 0, 0, 0)).save(shop / "clear.png")
    arguments = ("generate", "clear.png", "--model", tiny, "--background", "#ff0000", "--poster")
    result = run(*arguments, cwd=shop)
    assert result.returncode == 0, result.stderr
    red = run("generate", "red.png", "--model", tiny, "--poster", cwd=paint(shop, "red.png", (255, 0, 0)))
    assert red.returncode == 0, red.stderr
    assert (shop / "clear-poster.png").read_bytes() == (shop / "red-poster.png").read_bytes()


def paint(shop: Path, name: str, colour: tuple[int, int, int]) -> Path:
    Image.new("RGB", (480, 600), colour).save(shop / name)
    return shop


def test_warnings_are_lines_on_stderr_and_entries_in_json(shop: Path, tiny: Path) -> None:
    paint(shop, "flat.png", (200, 200, 200))
    common = ("generate", "flat.png", "--model", tiny, "--encoder", "hardware", "--overwrite")
    loud = run(*common, cwd=shop)
    warned = [line for line in loud.stderr.replace("\r", "\n").splitlines() if line.strip().startswith("warning: ")]
    assert loud.returncode == 0 and len(warned) == 2, loud.stderr
    assert "flat.png" in warned[0] and "figure" in warned[0]
    assert "hardware" in warned[1] and "libx264" in warned[1]
    quiet = run(*common, "--quiet", "--json", cwd=shop)
    assert quiet.stderr == ""
    assert [f"warning: {line}" for line in json.loads(quiet.stdout)["warnings"]] == [w.strip() for w in warned]
