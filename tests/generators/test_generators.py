"""Image-to-video pipelines of diffusers as models: miniatures of every family, from folder to video."""

import inspect
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command import assert_refused, run
from diffusers import LTXImageToVideoPipeline
from miniatures import FAMILIES, FRAMES, FRAMES_OF, STEPS, Miniature, set_index
from PIL import Image

from fashionflow_core import pipeline, video
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, OutOfMemory
from fashionflow_core.generators import diffusers_model, families, offload
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import config_of
from fashionflow_core.images.fitting import Fitted

SMALL = 0.0123  # megapixels: 128x96
RATES = {"svd": 7, "cogvideox": 8, "wan21": 16, "wan22_a14b": 16, "ltx": 25}  # of the others: 24
EVERY = [name if name == "ltx" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture
def photo() -> np.ndarray:
    """A portrait photo with a coloured gradient, 150 by 100 pixels."""
    rows, columns = np.mgrid[:150, :100]
    return np.stack([rows, columns * 2, 255 - rows], -1).astype(np.uint8)


@pytest.fixture
def shop(tmp_path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo).save(tmp_path / "dress.png")
    return tmp_path


def config(place: Path) -> GeneratorConfig:
    found = config_of(place)
    assert isinstance(found, GeneratorConfig)
    return found


def small(place: Path, **changes: Any) -> GenerateSettings:
    """A request for few pixels, where the family has a choice, with the first frame faded from the photo."""
    sizes = config(place).sizes
    size = {} if sizes.bucket or sizes.fixed else {"megapixels": max(SMALL, sizes.divisor**2 / 1e6)}
    return GenerateSettings(
        **{"frames": FRAMES_OF.get(place.name, FRAMES), "steps": STEPS, "lock": "off", **size, **changes}
    )


@pytest.mark.parametrize("family", EVERY)
def test_every_family_makes_a_video_of_the_photo(
    miniature: Miniature, family: str, shop: Path, photo: np.ndarray
) -> None:
    place = miniature(family, shop)
    pipe = pipeline.load(place, device="cpu")
    seen: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", FashionFlowWarning)
        clip = pipe.generate(photo, small(place, lock=None), on_step=lambda done, steps: seen.append((done, steps)))
    frames = np.stack(list(clip.frames))
    assert (len(frames), clip.fps) == (FRAMES_OF.get(family, FRAMES), RATES.get(family, 24))
    assert clip.count == len(frames)
    assert seen == [(1, STEPS), (2, STEPS)]
    # The photo's shape, to within the even sides that videos have; no bars.
    height, width = frames.shape[1:3]
    assert (height, width) == (clip.height, clip.width) and abs(height / width - 1.5) < 3 / width
    shown = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))
    assert np.array_equal(frames[0], shown), "frame 0 is the photo itself"
    again = pipe.generate(photo, small(place, lock=None))
    assert np.array_equal(frames, np.stack(list(again.frames))), "same seed, same frames"
    plain, other = (np.stack(list(pipe.generate(photo, small(place, seed=seed)).frames)) for seed in (0, 1))
    assert not np.array_equal(plain[1:], other[1:])


def test_the_command_line_makes_a_file_that_tells_its_making(miniature: Miniature, shop: Path) -> None:
    place = miniature("wan22_ti2v", shop)
    (place / "source.json").write_text('{"repo": "shop/tiny", "commit": "0123abc", "files": {}}')
    arguments = ("--frames", FRAMES, "--steps", STEPS, "--megapixels", SMALL, "--device", "cpu", "--prompt", "red coat")
    result = run("generate", "dress.png", "-o", "a.mp4", "--model", place.name, *map(str, arguments), cwd=shop)
    assert result.returncode == 0, result.stderr
    info = video.probe(shop / "a.mp4")
    assert (info.frames, info.fps) == (FRAMES, 24)
    told = run("inspect", "a.mp4", "--json", cwd=shop)
    (found,) = [json.loads(line) for line in told.stdout.splitlines()]
    settings = found["settings"]
    assert (settings["repo"], settings["revision"], settings["prompt"]) == ("shop/tiny", "0123abc", "red coat")
    assert "--prompt 'red coat'" in found["again"] and "--scheduler" not in found["again"]


@pytest.mark.slow
def test_files_for_a_platform_with_an_end_card(miniature: Miniature, shop: Path) -> None:
    """16 frames per second are too few for the target; the clip and its card are too short for it."""
    miniature("wan21", shop)
    sizes = ("--duration", "0.5", "--steps", "1", "--megapixels", SMALL, "--ratio", "9:16")
    finish = ("--for", "reels,web", "--end-card", "dress.png", "--end-card-seconds", "1")
    command = ("generate", "dress.png", "-o", "a.mp4", "--model", "wan21", "--device", "cpu")
    result = run(*map(str, (*command, *sizes, *finish)), cwd=shop)
    assert result.returncode == 0, result.stderr
    reels, web = (video.probe(shop / f"a.{name}.mp4") for name in ("reels", "web"))
    assert reels.fps == web.fps == 32 and reels.frames >= 3 * 32 and web.frames == 16 + 32
    assert reels.height > reels.width
    for name in ("reels", "web"):
        assert run("check", f"a.{name}.mp4", "--for", name, cwd=shop).returncode == 0
    told = json.loads(run("inspect", "a.web.mp4", "--json", cwd=shop).stdout)
    assert "--duration 0.5" in told["again"] and "--frames" not in told["again"]


@pytest.mark.parametrize("family", EVERY)
def test_the_table_repeats_what_signatures_state(miniature: Miniature, family: str, tmp_path: Path) -> None:
    import diffusers

    place = miniature(family, tmp_path)
    found = config(place)
    row = next(row for row in families.FAMILIES if row.title == found.family)
    accepted = inspect.signature(getattr(diffusers, found.pipeline).__call__).parameters
    assert accepted["num_inference_steps"].default == row.steps
    assert (row.guidance_argument in accepted) is (row.guidance is not None)
    if row.guidance is not None:
        assert accepted[row.guidance_argument].default == row.guidance
    assert ("prompt" in accepted) is row.takes_prompt
    assert not row.rate_argument or row.rate_argument in accepted
    assert (row.frames - 1) % row.frame_step == 0 and row.frames <= row.longest
    for name in row.schedulers.values():
        assert hasattr(diffusers, name)
    if found.sizes.bucket == 0 and "height" in accepted and accepted["height"].default:
        default = accepted["height"].default * accepted["width"].default
        assert row.pixels in (default, 704 * 1280)  # TI2V-5B shares its class with smaller models


def test_sizes_keep_the_photos_shape_within_the_budget() -> None:
    from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor

    from fashionflow_core.utils.frame_sizes import FrameSizes

    sizes = FrameSizes(480 * 832, 16)
    for height, width in ((1500, 1000), (1000, 1500), (999, 1000), (3000, 700)):
        rows, columns = sizes.nearest(height, width)
        assert rows % 16 == columns % 16 == 0 and rows * columns <= 1.1 * sizes.pixels
        assert abs(rows / columns / (height / width) - 1) < 0.05
    buckets = FrameSizes(640 * 640, 16, bucket=640)
    theirs = HunyuanVideo15ImageProcessor(vae_scale_factor=16)
    for height, width in ((1500, 1000), (1000, 1500), (1000, 1000), (1200, 627)):
        chosen = buckets.nearest(height, width)
        assert theirs.calculate_default_height_width(*chosen, 640) == chosen, "the pipeline crops nothing"
        assert abs(chosen[0] / chosen[1] / (height / width) - 1) < 0.12
    assert FrameSizes(1, 16, fixed=(480, 720)).nearest(1500, 1000) == (480, 720)


def test_a_model_with_one_size_pads_the_photo(miniature: Miniature, tmp_path: Path) -> None:
    place = miniature("cogvideox", tmp_path)
    path = place / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_learned_positional_embeddings": True}))
    assert config(place).sizes.fixed == (16, 16)
    with pytest.raises(FashionFlowError, match=r"megapixels: cogvideox .* has frame sizes of its own"):
        GenerateSettings(megapixels=1.0).resolve(config(place))


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("svd", ["--prompt", "x"], ["--prompt", "takes no text"]),
        ("hunyuan15", ["--guidance", "3"], ["--guidance", "guider component"]),
        ("hunyuan15", ["--megapixels", "1"], ["--megapixels", "sizes of its own"]),
        ("wan21", ["--frames", "10"], ["--frames", "4k+1"]),
        ("ltx", ["--frames", "13"], ["--frames", "8k+1"]),
        ("wan21", ["--frames", "401"], ["--frames", "at most 81"]),
        ("wan21", ["--frames", "1"], ["--frames", "4k+1"]),
        ("wan21", ["--prompt", "red\udcff coat"], ["--prompt", "not text"]),
        ("svd", ["--frames", "1"], ["--frames", "2 or more"]),
        ("wan21", ["--size", "160000x16000"], ["--size", "too large"]),
        ("wan21", ["--duration", "30"], ["--duration", "too long"]),
        ("wan21", ["--size", "100x100"], ["--size", "100x100"]),
        ("wan21", ["--size", "photo"], ["--size"]),
        ("wan21", ["--motion", "sway"], ["--motion"]),
        ("wan21", ["--loop"], ["--loop"]),
        ("wan21", ["--interpolate", "2"], ["--interpolate"]),
        ("ltx", ["--scheduler", "unipc"], ["--scheduler", "unipc"]),
        ("wan21", ["--backend", "tensorrt", "--device", "cpu"], ["--backend", "PyTorch"]),
        ("wan21", ["--prompt", "{caption}", "--device", "cpu"], ["--prompt", "caption"]),
        ("wan21", ["--lora", "nothing.safetensors", "--device", "cpu"], ["--lora", "nothing.safetensors"]),
    ],
)
def test_what_a_family_lacks_is_refused_in_one_line(
    miniature: Miniature, shop: Path, family: str, options: list[str], words: list[str]
) -> None:
    miniature(family, shop)
    result = run("generate", "dress.png", "-o", "a.mp4", "-q", "--model", family, *options, cwd=shop)
    assert_refused(result, 2, *words)
    assert not (shop / "a.mp4").exists()


def test_prompts_may_be_empty_or_long(miniature: Miniature, tmp_path: Path, photo: np.ndarray) -> None:
    place = miniature("ltx", tmp_path)
    pipe = pipeline.load(place, device="cpu")
    made = [
        np.stack(list(pipe.generate(photo, small(place, steps=1, prompt=text)).frames))
        for text in ("", "a b " * 1250, "c")
    ]
    assert not np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    nothing = pipe.generate(photo, small(place, steps=1, prompt="", negative_prompt=""))
    assert len(list(nothing.frames)) == FRAMES


def test_models_of_fashionflow_refuse_prompts_and_others_refuse_pipelines(miniature: Miniature, shop: Path) -> None:
    miniature("wan21", shop)
    assert_refused(run("generate", "dress.png", "-o", "a.mp4", "-q", "--prompt", "x", cwd=shop), 2, "--prompt", "mini")
    video.write((np.full((32, 32, 3), n, np.uint8) for n in range(4)), shop / "base.mp4", 8, 4, {})
    refused = "a pipeline of diffusers; training, export and interpolation are for FashionFlow models"
    for command in (
        ("export", "--model", "wan21", "-o", "engines", "--onnx"),
        ("train", "--init-from", "wan21", "-o", "runs", "-q", "--set", "schedule.max_steps=1"),
        ("train", "--init-from", "wan21", "-o", "runs", "-q", "--set", "schedule.max_steps=1", "--dry-run"),
        ("interpolate", "base.mp4", "-o", "longer.mp4", "--model", "wan21"),
    ):
        assert_refused(run(*command, cwd=shop), 1, "wan21", refused)
    assert not (shop / "engines").exists() and not (shop / "longer.mp4").exists()
    bench = run("bench", "step", "video", "--model", "wan21", "--device", "cpu", cwd=shop)
    assert_refused(bench, 2, "--model", "only the suite video")
    assert_refused(run("bench", "video", "--model", "http://h/v1", cwd=shop), 2, "--model", "remote")


def _with_code(place: Path) -> None:
    set_index(place, transformer=["my_code", "Transformer"])


def _with_a_module_beside(place: Path) -> None:
    """Named like none of the installed `diffusers.pipelines`."""
    (place / "my_pipelines").mkdir()
    set_index(place, transformer=["my_pipelines", "Transformer"])


def _with_python(place: Path) -> None:
    (place / "vae" / "model.py").write_text("raise SystemExit")


def _with_pickles(place: Path) -> None:
    (place / "vae" / "diffusion_pytorch_model.safetensors").rename(place / "vae" / "diffusion_pytorch_model.bin")


def _with_auto_map(place: Path) -> None:
    path = place / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "a.B"}}))


def _without_part(place: Path) -> None:
    (place / "scheduler").rename(place / "other")


def _with_unknown_class(place: Path) -> None:
    set_index(place, _class_name="ImaginaryPipeline")


def _without_photo(place: Path) -> None:
    set_index(place, _class_name="TextToVideoSDPipeline")


def _half_written(place: Path) -> None:
    path = place / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_with_code, ["transformer", "never run"]),
        (_with_a_module_beside, ["transformer", "never run"]),
        (_with_python, ["model.py", "never run"]),
        (_with_pickles, ["vae", "pickles"]),
        (_with_auto_map, ["auto_map", "loads code"]),
        (_without_part, ["scheduler/", "missing"]),
        (_with_unknown_class, ["ImaginaryPipeline"]),
        (_without_photo, ["TextToVideoSDPipeline", "takes no photo"]),
        (_half_written, ["safetensors"]),
    ],
)
def test_a_folder_that_is_unsafe_or_broken_is_refused(
    miniature: Miniature, shop: Path, damage: Any, words: list[str]
) -> None:
    damage(miniature("wan21", shop))
    result = run("generate", "dress.png", "-o", "a.mp4", "-q", "--model", "wan21", "--device", "cpu", cwd=shop)
    assert_refused(result, 1, *words)


def test_a_missing_package_is_named_before_anything_is_opened(
    miniature: Miniature, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fashionflow_core.generators import folder

    miniature("wan21", shop)
    monkeypatch.setattr(folder, "_is_installed", lambda name: name != "ftfy")
    arguments = ("generate", "dress.png", "-o", "a.mp4", "-q", "--model", "wan21", "--device", "cpu")
    result = run(*arguments, cwd=shop)
    assert_refused(result, 1, "ftfy")
    assert "generators" in result.stderr
    planned = run(*arguments, "--dry-run", "--json", cwd=shop)
    assert json.loads(planned.stdout)["requirements"]["missing_packages"] == ["ftfy"]


def test_a_dry_run_tells_bytes_licence_and_offload(miniature: Miniature, shop: Path) -> None:
    place = miniature("ltx", shop)
    result = run("generate", "dress.png", "-o", "a.mp4", "--model", "ltx", "--dry-run", "--device", "cpu", cwd=shop)
    assert result.returncode == 0 and "licence" in result.stdout and "none expected" in result.stdout
    planned = run(
        "generate", "dress.png", "-o", "a.mp4", "--model", "ltx", "--dry-run", "--json", "--dtype", "bf16", cwd=shop
    )
    needed = json.loads(planned.stdout)["requirements"]
    stored = sum(file.stat().st_size for file in place.rglob("*.safetensors"))
    assert needed["disk_bytes"] == stored and needed["is_restricted"]
    assert 0 < needed["device_bytes"] < 0.6 * stored


def test_a_shown_folder_tells_what_it_needs(miniature: Miniature, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fashionflow_core.generators import folder

    place = miniature("wan22_ti2v", shop)
    monkeypatch.setattr(folder, "_is_installed", lambda name: name != "ftfy")
    shown = json.loads(run("models", "show", "./wan22_ti2v", "--json", cwd=shop).stdout)
    stored = sum(file.stat().st_size for file in place.rglob("*.safetensors"))
    assert shown["weights_bytes"]["total"] == stored and 0 < shown["device_bytes"] <= stored
    assert shown["licence"] == "Apache-2.0" and shown["missing_packages"] == ["ftfy"]
    assert shown["offload"] in offload.RUNGS
    lines = run("models", "show", "./wan22_ti2v", cwd=shop).stdout
    assert "offload" in lines and "device_bytes" in lines


def test_a_pipeline_of_an_unknown_family_is_tried_with_a_warning(miniature: Miniature, tmp_path: Path) -> None:
    place = miniature("ltx", tmp_path)
    set_index(place, _class_name="LTXI2VLongMultiPromptPipeline")
    with pytest.raises(FashionFlowError, match="takes no photo"):
        pipeline.load(place, device="cpu")
    set_index(place, _class_name="Cosmos2VideoToWorldPipeline")
    with (
        pytest.warns(FashionFlowWarning, match="is not tested"),
        pytest.raises(FashionFlowError, match="cosmos_guardrail") as caught,
    ):
        pipeline.load(place, device="cpu")
    assert "install" in (caught.value.hint or "")


@pytest.mark.slow
def test_a_pipeline_that_is_called_by_its_signature_generates(
    miniature: Miniature, tmp_path: Path, photo: np.ndarray
) -> None:
    place = miniature("skyreels_forcing", tmp_path)
    with pytest.warns(FashionFlowWarning, match="SkyReelsV2DiffusionForcingImageToVideoPipeline is not tested"):
        pipe = pipeline.load(place, device="cpu")
    assert len(list(pipe.generate(photo, small(place)).frames)) == FRAMES


def test_values_that_are_not_finite_and_failures_are_one_line(
    miniature: Miniature, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = miniature("ltx", tmp_path)
    pipe = pipeline.load(place, device="cpu")

    def answers(made: Any) -> None:
        def call(*_: Any, **__: Any) -> Any:
            if isinstance(made, Exception):
                raise made
            return SimpleNamespace(frames=[made])

        monkeypatch.setattr(LTXImageToVideoPipeline, "__call__", call)

    answers(np.full((FRAMES, 128, 96, 3), np.nan))
    with pytest.raises(FashionFlowError, match="not finite"):
        pipe.generate(photo, small(place))
    answers(RuntimeError("shapes differ"))
    with pytest.raises(FashionFlowError, match="shapes differ"):
        pipe.generate(photo, small(place))
    answers(torch.OutOfMemoryError("none left"))
    with pytest.raises(OutOfMemory, match="cpu: out of memory"):
        pipe.generate(photo, small(place))


def test_the_offload_ladder_is_climbed_down_when_memory_runs_out(
    miniature: Miniature, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = miniature("ltx", tmp_path)
    pipe = pipeline.load(place, device="cpu")
    expected = np.stack(list(pipe.generate(photo, small(place)).frames))
    placed: list[str] = []
    monkeypatch.setattr(offload, "place", lambda _pipe, rung, _device: placed.append(rung))
    model: Any = pipe.networks
    original = LTXImageToVideoPipeline.__call__

    def run_short_of_memory(*arguments: Any, **values: Any) -> Any:
        if model.rung != offload.SEQUENTIAL:
            raise torch.OutOfMemoryError("none left")
        return original(*arguments, **values)

    monkeypatch.setattr(LTXImageToVideoPipeline, "__call__", run_short_of_memory)
    model.device = torch.device("meta")  # not the CPU: it has no offload
    with pytest.warns(FashionFlowWarning, match="out of memory with offload none; reopening it with offload model"):
        clip = pipe.generate(photo, small(place))
    assert placed == ["model", "group", "sequential"]
    assert np.array_equal(np.stack(list(clip.frames)), expected), "the same seed gives the same frames on any rung"


@pytest.mark.gpu
@pytest.mark.parametrize("rung", [offload.MODEL, offload.GROUP, offload.SEQUENTIAL])
def test_each_rung_gives_the_same_frames_on_a_gpu(
    miniature: Miniature, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, rung: str
) -> None:
    place = miniature("ltx", tmp_path)
    made = []
    for one in (offload.NONE, rung):
        monkeypatch.setattr(offload, "expected_rung", lambda _weights, _free, one=one: one)
        pipe = pipeline.load(place, device="cuda", dtype="fp32")
        source: Any = pipe.networks
        assert source.rung == one
        made.append(np.stack(list(pipe.generate(photo, small(place)).frames)).astype(int))
    assert abs(made[0] - made[1]).max() <= 1


def test_the_expected_rung_depends_on_free_bytes() -> None:
    weights = {"transformer": 10, "text_encoder": 12}
    rungs = [offload.expected_rung(weights, free) for free in (None, 1000, 20, 5)]
    assert rungs == ["none", "none", "model", "group"]


def test_attention_is_what_gpu_and_packages_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"flash_attn"}
    find = diffusers_model.importlib.util.find_spec
    monkeypatch.setattr(
        diffusers_model.importlib.util, "find_spec", lambda name: name if name in installed else find(name)
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    gpu = torch.device("cuda")
    assert diffusers_model.attention_backend(torch.device("cpu"), torch.bfloat16) is None
    assert diffusers_model.attention_backend(gpu, torch.float32) is None
    assert diffusers_model.attention_backend(gpu, torch.bfloat16) == "flash"
    installed.add("flash_attn_interface")
    assert diffusers_model.attention_backend(gpu, torch.bfloat16) == "_flash_3"


@pytest.mark.slow
def test_samplers_are_exchanged_where_they_can_be(miniature: Miniature, tmp_path: Path, photo: np.ndarray) -> None:
    place = miniature("wan22_a14b", tmp_path)
    pipe = pipeline.load(place, device="cpu")
    made = {}
    for name in (None, "unipc", "euler", "dpm++"):
        clip = pipe.generate(photo, small(place, scheduler=name))
        made[name] = np.stack(list(clip.frames))
        assert clip.metadata["fashionflow_scheduler"] == (name or "own")
    assert np.array_equal(made[None], made["unipc"]), "it is the folder's own"
    assert not np.array_equal(made["euler"], made["dpm++"])


def test_a_frame_that_came_back_resized_loses_its_bars_too(photo: np.ndarray) -> None:
    from fashionflow_core.diffusion.frame_generator import came_back
    from fashionflow_core.images.person import Box

    fitted = Fitted(np.zeros((128, 96, 3), np.uint8), Box(4, 0, 120, 96), (0, 0, 100, 150))
    assert came_back(fitted, 128, 96) == fitted.box
    assert came_back(fitted, 64, 48) == Box(2, 0, 60, 48)
