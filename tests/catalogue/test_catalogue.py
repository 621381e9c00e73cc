"""`fashionflow generate FOLDER -o OUT`: videos, manifest, resume; failures stay alone; one run at a time."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import assert_whole, conventions, files, last, lines, photo, plain, quick, quick_started, shop
from command import assert_refused, run, wait_until
from quick_model import POISON, SECONDS
from tiny import build_tiny_model, tiny_config

from fashionflow_core import video
from fashionflow_core.catalogue import gallery
from fashionflow_core.catalogue.jobs import RunSpec, fingerprint, settings_hash
from fashionflow_core.catalogue.manifest import Manifest
from fashionflow_core.catalogue.outputs import opened
from fashionflow_core.catalogue.quality_gate import QualityLimits
from fashionflow_core.config import EncodeOptions, GenerateSettings, LoadOptions
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_folder_of_photos(tmp_path: Path, tiny: Path) -> None:
    """Mirrored folders, a bad photo alone, other files passed over; the same video as for the photo by itself."""
    photos = shop(tmp_path / "photos", 3)
    photo(photos / "women" / "höst" / "dress.PNG", 7)
    photo(photos / ".hidden.jpg")
    (photos / "bad.jpg").write_bytes((photos / "000.jpg").read_bytes()[:500])
    (photos / "notes.txt").write_text("hello")
    result = run("generate", "photos", "-o", "out", "--model", tiny, "--seed", "5", cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    made = ["000", "001", "002", "women/höst/dress"]
    assert sorted(result.stdout.splitlines()) == [f"out/{name}.mp4" for name in made]
    assert "skipped 1 file (not a photo): 1 .txt" in result.stderr
    assert result.stderr.splitlines()[-2].startswith("error: 1 of 5 items failed: see out/manifest.jsonl")
    out = tmp_path / "out"
    assert assert_whole(out) == [f"{name}.mp4" for name in made]
    assert len(files(out)) == 2 * len(made)

    records = last(out)
    assert len(lines(out)) == len(records) == 5
    bad = records["bad"]
    assert (bad["status"], bad["stage"], bad["error_class"]) == ("failed", "photo", "PhotoError")
    assert "damaged or cut off" in bad["message"] and "\n" not in bad["message"]
    for name in made:
        record = records[name]
        assert (record["status"], record["output"], record["poster"]) == ("done", f"{name}.mp4", f"{name}-poster.jpg")
        assert (record["frames"], record["seed"], record["model"], record["attempt"]) == (4, 5, "tiny", 1)
        assert len(record["input_hash"]) == 64 and record["settings_hash"] and record["model_revision"]
        assert {"photo", "denoise", "decode", "encode"} <= record["seconds"].keys()

    alone = run("generate", "photos/001.jpg", "-o", "alone.mp4", "--model", tiny, "--seed", "5", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert (video.read(tmp_path / "alone.mp4") == video.read(out / "001.mp4")).all()


def test_resuming_makes_what_is_missing_or_changed(tmp_path: Path) -> None:
    tiny = conventions(tmp_path / "tiny")
    photos, out = shop(tmp_path / "photos", 4), tmp_path / "out"
    command = ("photos", "-o", "out", "--model", tiny, "--quiet")
    first = quick(*command, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert len(lines(out)) == 4
    again = quick(*command, cwd=tmp_path)
    assert (again.returncode, again.stdout, len(lines(out))) == (0, "", 4)

    photo(photos / "000.jpg", 99)  # another photo
    (out / "001.mp4").unlink()  # a video lost
    (out / "002.mp4").write_bytes((out / "002.mp4").read_bytes()[:-40])  # one damaged
    (photos / "003.jpg").touch()  # the same photo
    photo(photos / "004.jpg", 4)  # a new one
    third = quick(*command, cwd=tmp_path)
    assert third.returncode == 0, third.stderr
    assert sorted(third.stdout.split()) == [f"out/{name}.mp4" for name in ("000", "001", "002", "004")]
    assert assert_whole(out) == [f"{number:03d}.mp4" for number in range(5)]

    steps = quick(*command, "--steps", "3", cwd=tmp_path)
    assert len(steps.stdout.split()) == 5  # other settings
    everything = quick(*command, "--steps", "3", "--overwrite", cwd=tmp_path)
    assert len(everything.stdout.split()) == 5
    assert {record["steps"] for record in last(out).values()} == {3}


def test_another_model_is_another_video(tmp_path: Path) -> None:
    shop(tmp_path / "photos", 1)
    tiny, other = conventions(tmp_path / "tiny"), conventions(tmp_path / "other", fps=24)
    for model, made in ((tiny, 1), (tiny, 0), (other, 1), (other, 0)):
        result = quick("photos", "-o", "out", "--model", model, "--quiet", cwd=tmp_path)
        assert (result.returncode, len(result.stdout.split())) == (0, made), result.stderr
    assert len({record["model_revision"] for record in lines(tmp_path / "out")}) == 2


def test_failed_items_wait_for_retry_failed_or_a_change(tmp_path: Path) -> None:
    tiny = conventions(tmp_path / "tiny")
    photos, out = shop(tmp_path / "photos", 2), tmp_path / "out"
    good = (photos / "000.jpg").read_bytes()
    (photos / "000.jpg").write_bytes(b"no photo")
    command = ("photos", "-o", "out", "--model", tiny)
    assert quick(*command, cwd=tmp_path).returncode == 3
    again = quick(*command, cwd=tmp_path)
    assert again.returncode == 3 and len(lines(out)) == 2  # told of, not tried
    assert "failed before" in again.stderr and "--retry failed" in again.stderr
    retried = quick(*command, "--retry-failed", cwd=tmp_path)
    assert retried.returncode == 3 and len(lines(out)) == 3
    (photos / "000.jpg").write_bytes(good)
    mended = quick(*command, cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert last(out)["000"]["status"] == "done"


def test_a_second_run_on_the_same_folder_is_refused_at_once(tmp_path: Path) -> None:
    photos, model, out = shop(tmp_path / "photos", 2), conventions(tmp_path / "model"), tmp_path / "out"
    with quick_started(photos, "-o", "out", "--model", model, cwd=tmp_path, env={SECONDS: "1000"}) as process:
        wait_until((out / ".fashionflow" / ".lock").exists, process, tmp_path / "log")
        second = quick(photos, "-o", "out", "--model", model, "--quiet", cwd=tmp_path)
        assert process.poll() is None
        assert_refused(second, 1, "out: another run of fashionflow is writing to it")
        with pytest.raises(FashionFlowError, match="another run of fashionflow"), opened(out):
            pass


def test_json_lines_are_the_manifest(tmp_path: Path) -> None:
    tiny = conventions(tmp_path / "tiny")
    photos = shop(tmp_path / "photos", 2)
    (photos / "bad.png").write_bytes(b"")
    result = quick("photos", "-o", "out", "--model", tiny, "--json", "--quiet", cwd=tmp_path)
    assert result.returncode == 3
    assert [json.loads(line) for line in result.stdout.splitlines()] == lines(tmp_path / "out")


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    tiny = conventions(tmp_path / "tiny")
    shop(tmp_path / "photos", 2)
    out = tmp_path / "out"
    out.mkdir()
    video.write(np.zeros((2, 16, 16, 3), np.uint8), out / "000.mp4", fps=5, count=2)
    before = (out / "000.mp4").read_bytes()
    result = quick("photos", "-o", "out", "--model", tiny, cwd=tmp_path)
    assert result.returncode == 3 and "already exists and was not made by a catalogue" in result.stderr
    assert (out / "000.mp4").read_bytes() == before
    assert files(out) == ["000.mp4", "001-poster.jpg", "001.mp4"]
    for more in ("--retry-failed", "--seed=3"):  # that it failed before makes it no more ours
        assert quick("photos", "-o", "out", "--model", tiny, more, cwd=tmp_path).returncode == 3
        assert (out / "000.mp4").read_bytes() == before
    result = quick("photos", "-o", "out", "--model", tiny, "--overwrite", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert assert_whole(out) == ["000.mp4", "001.mp4"]


def test_the_summary_names_stage_and_reason_but_no_class(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"none")
    plain(tmp_path / "photos" / "poison.png", (250, 5, POISON))
    result = quick("photos", "-o", "out", "--model", conventions(tmp_path / "model"), cwd=tmp_path)
    assert result.returncode == 3
    rows = [line for line in result.stderr.splitlines() if line.startswith("failed          ")]
    assert len(rows) == 2 and "opening the photo, such as bad" in rows[0], result.stderr
    assert "generating, such as poison: this photo is poison" in rows[1]
    assert not re.search(r"\b\w+(Error|Exception|Died)\b", result.stderr), result.stderr


def test_warnings_of_photos_are_on_stderr_and_in_the_group_check(tmp_path: Path) -> None:
    plain(tmp_path / "photos" / "wall.png", (90, 90, 90))
    model = conventions(tmp_path / "model")
    result = quick("photos", "-o", "out", "--model", model, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "wall.png: no figure found" in line
    assert (tmp_path / "out" / "index.html").read_text().count('"to_check": true') == 1


def test_overwrite_of_a_link_writes_to_its_target(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    out, elsewhere, model = tmp_path / "out", tmp_path / "elsewhere", conventions(tmp_path / "model")
    elsewhere.mkdir()
    (elsewhere / "real.mp4").write_bytes(b"older")
    out.mkdir()
    (out / "a.mp4").symlink_to(elsewhere / "real.mp4")
    refused = quick("photos", "-o", "out", "--model", model, cwd=tmp_path)
    assert refused.returncode == 3 and "a link that leads out" in refused.stderr
    assert (elsewhere / "real.mp4").read_bytes() == b"older"
    result = quick("photos", "-o", "out", "--model", model, "--overwrite", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (out / "a.mp4").is_symlink() and len(video.read(elsewhere / "real.mp4")) == 4
    again = quick("photos", "-o", "out", "--model", model, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr


def test_pictures_of_the_user_are_no_posters(tmp_path: Path) -> None:
    """Videos beside their photos: `a-poster.jpg` is a photo like any other and stays what it is."""
    model, out = conventions(tmp_path / "model"), tmp_path / "shop"
    for number, name in enumerate(("a", "a-poster", "b")):
        photo(out / f"{name}.jpg", number)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "list.txt").write_text("shop/a.jpg\nshop/a-poster.jpg\nshop/b.jpg\n")
    for more in ((), ("--retry-failed",), ("--steps", "3")):
        result = quick("shop/list.txt", "-o", "shop", "--model", model, *more, cwd=tmp_path)
        assert result.returncode == 3 and "already exists and was not made by a catalogue" in result.stderr
        assert {name: (out / name).read_bytes() for name in before} == before
    assert {name for name, record in last(out).items() if record["status"] == "done"} == {"a-poster", "b"}
    # Not even then: the photo that a video would replace.
    (out / "c.webp").write_bytes((out / "b.jpg").read_bytes())
    command = ("shop/c.webp", "-o", "shop", "--format", "webp", "--overwrite", "--model", model)
    result = quick(*command, cwd=tmp_path)
    assert result.returncode == 3 and "c.webp: is the photo itself" in result.stderr
    assert (out / "c.webp").read_bytes() == before["b.jpg"]


def test_manifests_that_are_none(tmp_path: Path) -> None:
    """One warning names the line, which is skipped; what is behind the last line's end was cut off by a kill."""
    path, good = tmp_path / "manifest.jsonl", b'{"item": "a", "status": "done", "frames": 4}\n'
    fields = (b'"frames": null', b'"frames": true', b'"scores": [1]', b'"scores": {"motion": "2"}', b'"output": 3')
    fields += (b'"fps": "25"', b'"flags": "x"', b'"seconds": {"denoise": []}', b'"warnings": {}', b'"source": null')
    wrong = [b'{"item": "b", "status": "done", ' + field + b"}\n" for field in fields]
    for bad in (b"\xff\xfe\n", b"[]\n", b"{}\n", b"\n", b"[" * 9000 + b"\n", *wrong):
        path.write_bytes(good + bad + good.replace(b'"a"', b'"c"'))
        with pytest.warns(FashionFlowWarning, match=r"manifest\.jsonl: line 2 is not a record"):
            manifest = Manifest(tmp_path)
        assert list(manifest.states) == ["a", "c"]
        manifest.close()
        gallery.build(tmp_path)
    for torn in (b"\0\0\0", b'{"item": "a', b"\xff", b"x" * 200_000):
        path.write_bytes(good + torn)
        manifest = Manifest(tmp_path)
        assert path.read_bytes() == good and list(manifest.states) == ["a"]
        manifest.close()


def test_each_failure_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    model = conventions(tmp_path / "model")
    shop(tmp_path / "photos", 1)
    (tmp_path / "photos" / "a\nerror: b.jpg").write_bytes(b"")
    result = quick("photos", "-o", "out", "--model", model, cwd=tmp_path)
    assert result.returncode == 3
    found = re.split(r"[\r\n]+", result.stderr)
    assert len([line for line in found if line.startswith("error:")]) == 1, result.stderr


def test_what_is_in_place_is_taken_over_when_its_line_is_missing(tmp_path: Path) -> None:
    """As a kill leaves it between the last rename and the line: nothing is computed twice."""
    tiny = conventions(tmp_path / "tiny")
    shop(tmp_path / "photos", 2)
    command = ("photos", "-o", "out", "--model", tiny, "--quiet")
    assert quick(*command, cwd=tmp_path).returncode == 0
    out = tmp_path / "out"
    text = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text(text[0] + text[1][:50])  # and a torn last line
    inode = (out / "001.mp4").stat().st_ino
    assert quick(*command, cwd=tmp_path).returncode == 0
    assert (out / "001.mp4").stat().st_ino == inode
    assert [record.get("recovered", False) for record in lines(out)] == [False, True]


@pytest.mark.slow
def test_wrong_usage(tmp_path: Path, tiny: Path) -> None:
    shop(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    for arguments, code, words in (
        (("photos",), 2, "--out: several photos need a folder"),
        (("photos", "-o", "out.mp4"), 2, "out.mp4 is one video"),
        (("empty", "-o", "out"), 1, "empty: no photos found"),
        (("missing/*.jpg", "-o", "out"), 1, "no photos found"),
        (("missing", "-o", "out"), 1, "missing: no such file"),
        (("photos", "-o", "photos/000.jpg"), 1, "photos/000.jpg: not a folder"),
        (("photos", "-o", "out", "--format", "webm", "--codec", "h264"), 2, "webm"),
        (("photos", "-o", "out", "--fps", "1e6"), 2, "--fps"),
        (("photos", "-o", "out", "--frames-dir", "frames"), 2, "--frames-dir: for one photo only"),
        (("photos", "-o", "out", "--devices", "cpu,,cpu"), 2, "--devices"),
        (("photos", "-o", "out", "--batch", "0.5"), 2, "neither auto nor a number"),
        (("photos", "-o", "out", "--devices", "gpu9"), 2, "unknown device 'gpu9'"),
        (("photos", "-o", "out", "--frames", "3"), 2, "not a multiple of 2"),
    ):
        result = run("generate", *arguments, "--model", tiny, "--quiet", cwd=tmp_path)
        assert_refused(result, code, words)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_what_makes_a_video_another_one(tmp_path: Path) -> None:
    """Settings, files the model is opened with and their content; not what only costs memory or names a device."""
    weights = tmp_path / "lora.safetensors"
    weights.write_bytes(b"one")
    config, plain = tiny_config(), GenerateSettings()

    def hashed(settings: GenerateSettings = plain, variation: int = 0, **given: Any) -> str:
        work = RunSpec(model="", out="", scratch="", **{"load": LoadOptions(lora=weights), **given})
        return settings_hash(settings.resolve(config), work, variation)

    first = hashed()
    for alike in (
        hashed(GenerateSettings(decode_chunk=2)),
        hashed(GenerateSettings(frames=config.frames)),
        hashed(load=LoadOptions("cuda:1", lora=weights, low_memory=True), batch=4, scores=False),
        hashed(encode=EncodeOptions(None, None, "software")),
        hashed(gate=QualityLimits()),
        hashed(gate=QualityLimits(), reroll=2),
    ):
        assert alike == first
    different = [
        hashed(GenerateSettings(seed=1)),
        hashed(GenerateSettings(steps=7)),
        hashed(variation=1),
        hashed(suffix=".webm"),
        hashed(encode=EncodeOptions(crf=3)),
        hashed(background=(0, 0, 0)),
        hashed(load=LoadOptions()),
    ]
    weights.write_bytes(b"two")
    assert len({first, *different, hashed()}) == len(different) + 2


def test_finished_catalogues_keep_their_hashes(tmp_path: Path) -> None:
    """Values taken before options became dataclasses: another hash would make every finished video again."""
    (tmp_path / "lora.safetensors").write_bytes(b"one")
    settings = GenerateSettings().resolve(tiny_config())
    plain = settings_hash(settings, RunSpec(model="", out="", scratch=""), 0)
    assert (plain, fingerprint("a", plain, "b")) == ("fcea905ed5fa5857", "4f1d7f6f775983fd")
    work = RunSpec(
        model="",
        out="",
        scratch="",
        load=LoadOptions("cpu", "bf16", "torch", tmp_path / "lora.safetensors", allow_unverified=True, compile=True),
        encode=EncodeOptions(0, "av1", "hardware"),
        suffix=".webm",
        background=(0, 0, 0),
        gate=QualityLimits(),
        reroll=2,
    )
    assert settings_hash(settings, work, 1) == "88dc647ed34dd6d8"
