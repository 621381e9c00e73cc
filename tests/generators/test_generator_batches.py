"""Batches of generated clips: several photos in one call of a pipeline, each as it is generated alone."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from catalogues import last, shop
from command import run
from miniatures import Miniature
from PIL import Image

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import OutOfMemory
from fashionflow_core.generators import families, offload
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import config_of

LISTS = {
    "ltx": "LTXImageToVideoPipeline",
    "svd": "StableVideoDiffusionPipeline",  # takes no text; its decoder mixes neighbouring frames
    "cogvideox": "CogVideoXImageToVideoPipeline",
}
QUICK = ("--frames", "9", "--steps", "1", "--megapixels", "0.0042", "--device", "cpu")


@pytest.fixture
def photos() -> list[np.ndarray]:
    """A portrait, a landscape photo and another portrait."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in ((96, 64), (64, 96), (96, 64))]


def spy_on(monkeypatch: pytest.MonkeyPatch, name: str, found: list[int], most: int = 100) -> None:
    """Note how many photos each call gets; more than `most` run out of memory."""
    import diffusers

    kind: Any = getattr(diffusers, name)
    original = kind.__call__

    @functools.wraps(original)
    def call(self: Any, *arguments: Any, **values: Any) -> Any:
        count = len(values["image"]) if isinstance(values["image"], list) else 1
        found.append(count)
        if count > most:
            raise torch.OutOfMemoryError("none left")
        return original(self, *arguments, **values)

    monkeypatch.setattr(kind, "__call__", call)


def config(place: Path) -> GeneratorConfig:
    found = config_of(place)
    assert isinstance(found, GeneratorConfig)
    return found


@pytest.mark.parametrize(
    "family", [name if name == "ltx" else pytest.param(name, marks=pytest.mark.slow) for name in LISTS]
)
def test_a_batch_gives_what_its_photos_give_alone(
    miniature: Miniature, tmp_path: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    sizes: list[int] = []
    spy_on(monkeypatch, LISTS[family], sizes)
    place = miniature(family, tmp_path)
    pipe = pipeline.load(place, device="cpu")
    texts: list[dict[str, Any]] = [{"prompt": text} for text in ("red coat", "a b c d e f g", "blue")]
    same: dict[str, Any] = {"frames": 9, "steps": 2, "megapixels": 0.0123, "lock": "off"}
    settings = [
        GenerateSettings(seed=seed, **same, **(text if config(place).takes_prompt else {}))
        for seed, text in zip((0, 1, 0), texts)
    ]
    items, steps = [0, 0, 5], []
    together = pipe.generate_batch(photos, settings, items, lambda *step: steps.append(step))
    assert sorted(sizes) == [1, 2], "one call for the portraits, one for the landscape photo"
    assert steps == [(n, 4) for n in (1, 2, 3, 4)]
    made = [np.stack(list(clip.frames)) for clip in together]
    for photo, request, item, clip, frames in zip(photos, settings, items, together, made):
        alone = np.stack(list(pipe.generate(photo, request, item).frames))
        assert np.abs(alone.astype(int) - frames).max() <= 1
        assert np.array_equal(frames[0], alone[0]) and clip.metadata["fashionflow_seed"] == str(request.seed)
        if request.prompt:
            assert clip.metadata["fashionflow_prompt"] == request.prompt
    assert not np.array_equal(made[0][1:], made[2][1:])


def test_a_batch_that_is_too_large_leaves_the_ladder_alone(
    miniature: Miniature, tmp_path: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline.load(miniature("ltx", tmp_path), device="cpu")
    spy_on(monkeypatch, LISTS["ltx"], [], most=1)
    source: Any = pipe.networks
    source.device = torch.device("meta")  # any other than the CPU, where there is no ladder
    settings = [GenerateSettings(frames=9, steps=1, megapixels=0.0042)] * 2
    with pytest.raises(OutOfMemory, match="2 clips at a time") as caught:
        pipe.generate_batch(photos[::2], settings, [0, 0])
    assert caught.value.hint and source.rung == "none"


def test_a_catalogue_generates_in_batches_and_halves_them(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fashionflow_core.catalogue.jobs import Job, RunSpec
    from fashionflow_core.catalogue.stages import Maker

    found: list[int] = []
    spy_on(monkeypatch, LISTS["ltx"], found, most=2)
    files = sorted(shop(tmp_path / "photos", 5).iterdir())
    settings = GenerateSettings(frames=9, steps=1, megapixels=0.0042, lock="off")
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    work = RunSpec(
        model=str(miniature("ltx", tmp_path)),
        out=str(tmp_path / "out"),
        scratch=str(tmp_path / "scratch"),
        settings=settings,
        batch=4,
        scores=False,
    ).on("cpu")
    records: dict[str, Any] = {}
    maker = Maker(work, lambda job, record: records.update({job.name: record}), lambda _: None, lambda _: None)
    maker.open()
    assert maker.limit == 4
    jobs = [Job(n, path.stem, str(path), settings, 0, "", "") for n, path in enumerate(files)]
    maker.make([maker.start(job) for job in jobs])
    maker.finish()
    assert found == [4, 2, 2, 1] and maker.limit == 2
    assert {record["status"] for record in records.values()} == {"done"} and len(records) == 5


@pytest.mark.slow
def test_each_photo_of_a_batch_has_its_caption_and_seed(miniature: Miniature, tmp_path: Path) -> None:
    miniature("ltx", tmp_path)
    files = sorted(shop(tmp_path / "photos", 3).iterdir())
    rows = "".join(f"{path},{caption}\n" for path, caption in zip(files, ("red coat", "hat", "blue dress")))
    (tmp_path / "list.csv").write_text(f"photo,caption\n{rows}")
    command = ("generate", "list.csv", "--model", "ltx", "--prompt", "A {caption}.", *QUICK)
    result = run(*command, "-o", "out", "--batch", "3", cwd=tmp_path)
    assert result.returncode == 0 and "--batch" not in result.stderr, result.stderr
    told = [json.loads(run("inspect", f"out/{file.stem}.mp4", "--json", cwd=tmp_path).stdout) for file in files]
    assert [one["settings"]["prompt"] for one in told] == ["A red coat.", "A hat.", "A blue dress."]
    assert len({record["seed"] for record in last(tmp_path / "out").values()}) == 3


@pytest.mark.slow
def test_one_photo_a_call_is_told(miniature: Miniature, tmp_path: Path) -> None:
    miniature("wan21", tmp_path)
    shop(tmp_path / "photos", 2)
    command = ("generate", "photos", "-o", "out", "--model", "wan21", *QUICK)
    result = run(*command, "--batch", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "--batch" in line]
    assert line == "--batch: wan21 (Wan 2.1 and 2.2 A14B) takes one photo at a time"


def test_the_table_tells_who_takes_lists(miniature: Miniature, tmp_path: Path) -> None:
    assert {row.title for row in families.FAMILIES if row.takes_lists} == {
        "LTX-Video",
        "Stable Video Diffusion",
        "CogVideoX",
    }
    place = miniature("ltx", tmp_path)
    assert config(place).takes_lists
    path = place / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestep_conditioning": True}))
    assert not config(place).takes_lists, "its noise in decoding is drawn from one generator"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wan21", "wan22_ti2v", "skyreels", "hunyuan15", "ltx2"])
def test_what_is_said_to_take_one_photo_takes_no_list(
    miniature: Miniature, tmp_path: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Fails once an update of diffusers takes lists there: then the table of families may say so."""
    place = miniature(family, tmp_path)
    assert not config(place).takes_lists
    opened: list[Any] = []
    monkeypatch.setattr(offload, "place", lambda pipe, _rung, _device: opened.append(pipe))
    pipeline.load(place, device="cpu")
    two = [Image.fromarray(photo) for photo in photos[::2]]
    with pytest.raises(ValueError, match="image"):
        opened.pop()(image=two, prompt=["a", "b"], num_frames=9, num_inference_steps=1)
