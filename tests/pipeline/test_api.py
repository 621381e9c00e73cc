"""The names of `import fashionflow_core as ff`, and what generate and save take."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from tiny import build_tiny_model

import fashionflow_core as ff
from fashionflow_core import video
from fashionflow_core.video import marking, platforms, provenance

SHORT: dict[str, Any] = {"frames": 4, "steps": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ff.FashionFlowPipeline:
    return ff.load(str(build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)


def _frames(clip: ff.Clip) -> np.ndarray:
    return np.stack(list(clip.frames))


# ---- names ---------------------------------------------------------------------------------------------------------


def test_every_name_is_there():
    for name in ff.__all__:
        assert getattr(ff, name) is not None
    assert set(ff.__all__) <= set(dir(ff))
    assert ff.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="'fashionflow_core' has no attribute 'generate'"):
        _ = ff.generate  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_are_told_the_same_names():
    tree = ast.parse((ROOT / "fashionflow_core" / "__init__.pyi").read_text(encoding="utf-8"))
    told = {"__version__"} | {a.asname for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert told == set(ff.__all__)
    assert (ROOT / "fashionflow_core" / "py.typed").is_file()


def test_settings_and_errors_need_no_torch():
    code = "import sys, fashionflow_core as ff; ff.GenerateSettings(steps=3); ff.UsageError; ff.__version__; dir(ff)\n"
    code += "print(sorted({'torch', 'numpy', 'diffusers', 'av', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_models_by_name_and_by_folder(tmp_path: Path):
    assert ff.load("mini-latent", device="cpu").config.name == "mini-latent"
    folder = build_tiny_model(tmp_path / "tiny")
    assert ff.load(folder, device="cpu").config.name == ff.load(str(folder), device="cpu").config.name == "tiny"
    with pytest.raises(ff.FashionFlowError, match="not a model folder"):
        ff.load(Path("mini-latent"))  # a Path is a folder, never a name
    with pytest.raises(ff.FashionFlowError, match="neither a known model nor a folder"):
        ff.load("minni")
    with pytest.raises(ff.UsageError, match="dtype"):
        ff.load("mini-latent", dtype="fp64")


def test_options_as_a_whole_and_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, read = build_tiny_model(tmp_path / "tiny"), []
    load = ff.ModelConfig.load.__func__
    monkeypatch.setattr(ff.ModelConfig, "load", classmethod(lambda cls, path: read.append(path) or load(cls, path)))
    networks = ff.load(folder, ff.LoadOptions(device="cpu", dtype="fp32"), dtype="bf16").networks
    assert str(networks.dtype) == "torch.bfloat16"  # keywords win
    assert read == [folder]  # model.json is read once
    with pytest.raises(ff.UsageError, match="compile, low_memory"):
        ff.LoadOptions(compile=True, low_memory=True)


# ---- photos --------------------------------------------------------------------------------------------------------


def test_a_path_an_array_and_an_image_of_one_photo_make_one_clip(
    model: ff.FashionFlowPipeline, photo: np.ndarray, tmp_path: Path
):
    expected = _frames(model.generate(photo, **SHORT))
    Image.fromarray(photo).save(tmp_path / "dress.png")
    for source in (tmp_path / "dress.png", str(tmp_path / "dress.png"), Image.fromarray(photo)):
        np.testing.assert_array_equal(_frames(model.generate(source, **SHORT)), expected)
    with Image.open(tmp_path / "dress.png") as lazy:
        np.testing.assert_array_equal(_frames(model.generate(lazy, **SHORT)), expected)


def test_an_image_is_turned_upright_and_laid_on_white(model: ff.FashionFlowPipeline, photo: np.ndarray, tmp_path: Path):
    expected = _frames(model.generate(photo, **SHORT))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(np.rot90(photo).copy()).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        np.testing.assert_array_equal(_frames(model.generate(turned, **SHORT)), expected)
    shown = photo.copy()
    shown[:30] = 255
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:30] = 0
    see_through = Image.fromarray(np.dstack((photo, alpha)))
    found = _frames(model.generate(see_through, **SHORT))
    np.testing.assert_array_equal(found, _frames(model.generate(shown, **SHORT)))


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((90, 60), np.uint8),
        np.zeros((90, 60, 4), np.uint8),
        np.zeros((90, 60, 3), np.float32),
        np.zeros((0, 60, 3), np.uint8),
        [[1, 2, 3]],
        None,
        b"dress.jpg",
    ],
    ids=["grey", "four channels", "floats", "empty", "a list", "nothing", "bytes"],
)
def test_what_is_no_photo_is_said_in_one_line(model: ff.FashionFlowPipeline, photo: Any):
    with pytest.raises(ff.FashionFlowError, match="photo") as caught:
        model.generate(photo, **SHORT)
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there_is_named(model: ff.FashionFlowPipeline):
    with pytest.raises(ff.FashionFlowError, match=r"nowhere\.jpg: no such file"):
        model.generate("nowhere.jpg")


# ---- settings ------------------------------------------------------------------------------------------------------


def test_keywords_win_over_settings(model: ff.FashionFlowPipeline, photo: np.ndarray):
    settings = ff.GenerateSettings(seed=3, frames=6, steps=1)
    assert model.generate(photo, settings).count == 6
    clip = model.generate(photo, settings, frames=4)
    assert (clip.count, clip.metadata["fashionflow_seed"]) == (4, "3")
    assert settings.frames == 6
    np.testing.assert_array_equal(_frames(clip), _frames(model.generate(photo, seed=3, **SHORT)))


def test_a_wrong_setting_is_refused_before_any_work(model: ff.FashionFlowPipeline, photo: np.ndarray):
    wrong: list[tuple[dict[str, Any], str]]
    wrong = [({"steps": 0}, "steps"), ({"frames": 5}, "frames"), ({"scheduler": "heun"}, "heun")]
    for changes, says in wrong:
        with pytest.raises(ff.UsageError, match=says):
            model.generate(photo, **changes)
    with pytest.raises(TypeError, match="stepz"):
        model.generate(photo, stepz=3)


def test_numpy_numbers_are_numbers(model: ff.FashionFlowPipeline, photo: np.ndarray):
    expected = model.generate(photo, seed=5, **SHORT)
    clip = model.generate(photo, seed=np.int64(5), frames=np.int32(4), steps=np.uint8(1), fps=np.float32(25))
    np.testing.assert_array_equal(_frames(clip), _frames(expected))
    assert clip.metadata == expected.metadata


# ---- clips ---------------------------------------------------------------------------------------------------------


def test_a_clip_can_be_saved_twice(model: ff.FashionFlowPipeline, photo: np.ndarray, tmp_path: Path):
    clip = model.generate(photo, **SHORT)
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    info = clip.save(first)
    assert (info.path, info.frames, info.height, info.width) == (first, 4, clip.height, clip.width)
    list(clip.frames)
    clip.save(str(second))
    found, again = (video.read(path).astype(int) for path in (first, second))
    assert found.shape == again.shape == (4, clip.height, clip.width, 3) and np.abs(found - again).mean() < 10
    clip.save(second, crf=45)  # replaced
    assert second.stat().st_size < first.stat().st_size
    assert video.read_metadata(second)["fashionflow_steps"] == "1"


def test_a_clip_is_saved_for_targets(model: ff.FashionFlowPipeline, photo: np.ndarray, tmp_path: Path):
    clip = model.generate(photo, **SHORT)
    finish = ff.FinishOptions(("reels", "gif"), ratio="9:16", visible_mark="AI")
    infos = clip.save_files(tmp_path / "v.mp4", finish, crf=40)
    assert [info.path.name for info in infos] == ["v.reels.mp4", "v.gif"]
    for info, name in zip(infos, finish.targets):
        assert not platforms.check(info.path, platforms.find_platform(name)) and info.width * 16 == info.height * 9
    assert video.read_metadata(tmp_path / "v.reels.mp4")["fashionflow_crf"] == "40"
    one = clip.save(tmp_path / "one.mp4", finish=ff.FinishOptions(("reels",)), mark=False)
    assert one.frames >= 3 * one.fps and provenance.source_type(one.path) == ""
    with pytest.raises(ff.UsageError, match="for: several targets"):
        clip.save(tmp_path / "two.mp4", finish=finish)
    with pytest.raises(ff.UsageError, match="for: reels takes mp4, not webm"):
        clip.save(tmp_path / "two.webm", finish=ff.FinishOptions(("reels",)))
    for name in ("p.png", "p.jpg"):
        picture = clip.save_poster(tmp_path / name, finish=ff.FinishOptions(ratio="1:1"))
        assert Image.open(picture).width == Image.open(picture).height
        assert provenance.source_type(picture) == marking.SOURCE_TYPE
    with pytest.raises(ff.FashionFlowError, match=r"p\.gif: not a name of a poster"):
        clip.save_poster(tmp_path / "p.gif")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "two"))]


def test_frames_start_over_at_each_look(model: ff.FashionFlowPipeline, photo: np.ndarray):
    clip = model.generate(photo, **SHORT)
    one, other = clip.frames, clip.frames
    np.testing.assert_array_equal(next(one), next(other))
    assert len(list(one)) == 3 and len(list(clip.frames)) == 4
    assert "latents" not in repr(clip)


def test_a_place_that_cannot_be_written_to_is_named(model: ff.FashionFlowPipeline, photo: np.ndarray, tmp_path: Path):
    clip = model.generate(photo, **SHORT)
    with pytest.raises(ff.FashionFlowError, match="nowhere"):
        clip.save(tmp_path / "nowhere" / "dress.mp4")
    with pytest.raises(ff.FashionFlowError, match=r"dress\.txt"):
        clip.save(tmp_path / "dress.txt")
    assert list(tmp_path.iterdir()) == []
