"""Pipelines of diffusers as installed models: pulled, listed, shown, their licence asked about; catalogues of them."""

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogues import last, photo, plain
from catalogues import shop as photos_in
from command import assert_refused, started, wait_until
from command import run as run_here
from command import run_process as run
from hub_imitation import Hub, files_in, imitated_hub, nothing_installed, surroundings
from miniatures import Miniature
from photos import CASES

from fashionflow_core import video

REPO = "video/Tiny-I2V"
QUICK = ("--frames", "5", "--steps", "1", "--megapixels", "0.0042")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with imitated_hub() as hub:
        yield hub


@pytest.fixture
def env(tmp_path: Path, hub: Hub) -> dict[str, str]:
    return surroundings(hub, tmp_path)


@pytest.mark.slow
def test_a_pipeline_is_pulled_and_named_by_its_hub_id(
    miniature: Miniature, tmp_path: Path, hub: Hub, env: dict[str, str]
) -> None:
    files = files_in(miniature("wan22_ti2v", tmp_path / "made"))
    others = {"vae/diffusion_pytorch_model.fp16.safetensors": b"half", "extra/model.safetensors": b"", "run.py": b"x"}
    commit = hub.add(REPO, files | others | {"assets/logo.json": b"{}", "vae/pickle.bin": b""})
    photo(tmp_path / "dress.png")
    made = run("generate", "dress.png", "-o", "a.mp4", "--model", REPO, *QUICK, cwd=tmp_path, env=env)
    assert made.returncode == 0, made.stderr
    assert "Apache-2.0" in made.stderr
    home = tmp_path / "home" / "models" / "Tiny-I2V"
    installed = files_in(home)
    source = json.loads(installed.pop("source.json"))
    assert installed == files and (source["repo"], source["commit"]) == (REPO, commit)
    # From now on without a network; the video names the commit.
    offline = env | {"HF_HUB_OFFLINE": "1"}
    again = run("generate", "dress.png", "-o", "b.mp4", "-q", "--model", REPO, *QUICK, cwd=tmp_path, env=offline)
    assert again.returncode == 0, again.stderr
    told = json.loads(run("inspect", "b.mp4", "--json", cwd=tmp_path, env=offline).stdout)
    assert (told["settings"]["repo"], told["settings"]["revision"]) == (REPO, commit)
    listed = json.loads(run("models", "list", "--json", cwd=tmp_path, env=offline).stdout)
    (row,) = [one for one in listed if one["name"] == "Tiny-I2V"]
    assert row["state"] == "installed" and "Apache-2.0" in row["summary"]
    shown = json.loads(run("models", "show", REPO, "--json", cwd=tmp_path, env=offline).stdout)
    assert shown["licence"] == "Apache-2.0" and shown["config"]["pipeline"] == "WanImageToVideoPipeline"
    assert shown["weights_bytes"]["total"] == sum(map(len, (v for k, v in files.items() if k.endswith(".safetensors"))))
    checked = run("doctor", "--json", cwd=tmp_path, env=offline)
    (found,) = [check for check in json.loads(checked.stdout)["checks"] if "Tiny-I2V" in check["summary"]]
    assert "Apache-2.0" in found["summary"] and "in bf16" in found["summary"]
    assert found["details"]["device_bytes"] > 0 and found["details"]["missing_packages"] == []
    removed = run("models", "remove", "Tiny-I2V", cwd=tmp_path, env=offline)
    assert removed.returncode == 0 and not home.exists()


@pytest.mark.slow
def test_a_licence_that_restricts_is_asked_about_once(
    miniature: Miniature, tmp_path: Path, hub: Hub, env: dict[str, str]
) -> None:
    hub.add(REPO, files_in(miniature("svd", tmp_path / "made")))
    photo(tmp_path / "dress.png")
    generated = run("generate", "dress.png", "-o", "a.mp4", "-q", "--model", REPO, cwd=tmp_path, env=env)
    assert_refused(generated, 1, REPO, "licence restricts use")
    assert f"models pull {REPO} --accept-license" in generated.stderr
    assert nothing_installed(tmp_path) and not hub.sent("diffusion_pytorch_model.safetensors")
    pulled = run("models", "pull", REPO, "--accept-license", "-q", cwd=tmp_path, env=env)
    assert pulled.returncode == 0, pulled.stderr
    found = run("models", "path", REPO, cwd=tmp_path, env=env)
    assert found.stdout == pulled.stdout


@pytest.mark.slow
def test_a_repository_that_needs_code_or_pickles_is_not_installed(
    miniature: Miniature, tmp_path: Path, hub: Hub, env: dict[str, str]
) -> None:
    files = files_in(miniature("wan21", tmp_path / "made"))
    index = json.loads(files["model_index.json"])
    hub.add("video/code", files | {"model_index.json": json.dumps(index | {"vae": ["my_vae", "VAE"]}).encode()})
    assert_refused(run("models", "pull", "video/code", "-q", cwd=tmp_path, env=env), 1, "never run")
    weights = "vae/diffusion_pytorch_model.safetensors"
    hub.add("video/pickles", {k: v for k, v in files.items() if k != weights} | {f"{weights[:-12]}.bin": b"\x80"})
    assert_refused(run("models", "pull", "video/pickles", "-q", cwd=tmp_path, env=env), 1, "vae")
    assert nothing_installed(tmp_path)


@pytest.mark.slow
def test_a_catalogue_with_bad_photos_is_made_and_resumed(miniature: Miniature, tmp_path: Path) -> None:
    miniature("wan21", tmp_path)
    photos = photos_in(tmp_path / "photos", 3)
    bad = {f"{n:02d}-bad": case for n, case in enumerate(case for case in CASES.values() if case.fails)}
    for name, case in bad.items():
        (photos / f"{name}{case.suffix}").write_bytes(case.make())
    plain(photos / "one.png", (10, 10, 10))
    command = ("generate", "photos", "-o", "out", "--model", "wan21", "--device", "cpu", *QUICK, "--gate")
    result = run_here(*command, cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    records = last(tmp_path / "out")
    failed = {name for name, record in records.items() if record["status"] == "failed"}
    assert failed == set(bad)
    for name, case in bad.items():
        assert records[name]["stage"] == "photo" and re.search(case.fails or "", records[name]["message"]), name
    made = {name: record for name, record in records.items() if record["status"] == "done"}
    assert len(made) == 4 and all(record["scores"] and "flags" in record for record in made.values())
    assert len({record["seed"] for record in made.values()}) == 4, "each item has a seed of its own"
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.mp4")}
    again = run_here(*command, cwd=tmp_path)
    assert again.returncode == 3 and times == {path: path.stat().st_mtime_ns for path in times}
    other = run_here(*command[:-1], "--prompt", "a red coat", cwd=tmp_path)
    assert other.returncode == 3
    assert all(path.stat().st_mtime_ns > times[path] for path in times), "another prompt makes another video"


@pytest.mark.slow
def test_captions_of_a_list_stand_in_prompts(miniature: Miniature, tmp_path: Path) -> None:
    miniature("wan21", tmp_path)
    photos = sorted(photos_in(tmp_path / "photos", 2).iterdir())
    rows = "".join(f"{path},{caption}\n" for path, caption in zip(photos, ("red coat", "")))
    (tmp_path / "list.csv").write_text(f"photo,caption\n{rows}")
    arguments = ("--prompt", "A person in a {caption} turns.", "--model", "wan21", "--device", "cpu", *QUICK)
    result = run_here("generate", "list.csv", "-o", "out", *arguments, cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    told = json.loads(run_here("inspect", f"out/{photos[0].stem}.mp4", "--json", cwd=tmp_path).stdout)
    assert told["settings"]["prompt"] == "A person in a red coat turns."
    assert "caption" in last(tmp_path / "out")[photos[1].stem]["message"]


@pytest.mark.slow
def test_killed_in_the_middle_of_a_catalogue(miniature: Miniature, tmp_path: Path) -> None:
    miniature("ltx", tmp_path)
    photos_in(tmp_path / "photos", 12)
    command = ("generate", "photos", "-o", "out", "--model", "ltx", "--devices", "cpu", "--frames", "9", "--steps", "4")
    out, log = tmp_path / "out", tmp_path / "log"
    kept: dict[str, int] = {}
    moments = random.Random(7)
    for wanted in (0, 1, 3, 5, 8):
        with started(*command, "--megapixels", "0.03", cwd=tmp_path, log=log) as process:
            wait_until(lambda n=wanted: len(list(out.glob("*.mp4"))) >= n, process, log)
            time.sleep(moments.uniform(0, 0.25))
            process.kill()
        for path in out.glob("*.mp4"):
            assert len(video.read(path)) == 9, "nothing is half-written"
        for path in out.glob("*.mp4"):
            assert kept.setdefault(path.name, path.stat().st_ino) == path.stat().st_ino, "nothing is made twice"
    end = run(*command, "--megapixels", "0.03", cwd=tmp_path)
    assert end.returncode == 0, end.stderr
    assert [len(video.read(path)) for path in sorted(out.glob("*.mp4"))] == [9] * 12
    assert all((out / name).stat().st_ino == inode for name, inode in kept.items())


@pytest.mark.slow
def test_a_test_set_is_evaluated_with_a_pipeline(miniature: Miniature, tmp_path: Path) -> None:
    miniature("wan21", tmp_path)
    photos_in(tmp_path / "photos", 2)
    arguments = ("--model", "wan21", "--data", "photos", "--generated", "made", "--frames", "5", "--steps", "1")
    result = run_here("evaluate", *arguments, "--metrics", "drift", "-o", "e.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    made = [video.probe(path) for path in (tmp_path / "made").glob("*.mp4")]
    assert [info.frames for info in made] == [5, 5]
    assert all(info.height / info.width > 1.25 for info in made), "the photos are portraits, 96x72"
    told = json.loads(run_here("inspect", "made/000.mp4", "--json", cwd=tmp_path).stdout)
    assert "lock" not in told["settings"], "a model is judged by what it makes itself"
