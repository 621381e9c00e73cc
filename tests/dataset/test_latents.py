"""The cache of clips: what it stores is what the model's own encoders give, and it is whole whenever a run dies."""

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import moving
from safetensors.torch import load_file, save_file
from tiny import build_tiny_model, tiny_config

from fashionflow_core import video
from fashionflow_core.config import ModelConfig
from fashionflow_core.dataset.cache import CachedClip, LatentCache, Recipe, sizes
from fashionflow_core.dataset.clips import named_videos
from fashionflow_core.dataset.prepare import Prepared, estimate, make_plan, prepare
from fashionflow_core.diffusion.conditioning import clip_pixels, load_processor
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images.fitting import fit, fit_alike
from fashionflow_core.runtimes.torch import load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in train and one in test."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    for number, name in enumerate(("test/a+b.mp4", "train/c d.mp4", "train/e.mp4", "train/f.mp4")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        video.write(moving(16 + number, 48, 40), path, fps=30, count=16 + number)
    return folder


def run(videos: Path, cache: Path, model: Path, clips: int = 3, **options: Any) -> Prepared:
    """Prepare, two clips a shard."""
    recipe = Recipe.of(model, CPU, clips_per_video=clips, **options.pop("recipe", {}))
    shard_bytes = options.pop("shard_bytes", 2 * sizes(model, recipe.config, recipe.frames).clip_bytes)
    return prepare(
        make_plan(named_videos([videos]), recipe), cache, model, recipe, CPU, shard_bytes=shard_bytes, **options
    )


@pytest.fixture(scope="module")
def cache(videos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "cache"
    made = run(videos, folder, model)
    assert (made.encoded, made.kept, made.clips, made.left_out) == (12, 0, 12, [])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a cache but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_clip_is_what_the_encoders_give_for_its_frames(videos: Path, cache: Path, model: Path):
    networks, config = load(model, CPU, torch.float32), ModelConfig.load(model)
    clips = LatentCache(cache)
    assert len(clips) == 12
    seen = set()
    for number, clip in enumerate(clips):
        info = clip.info
        seen.add((info["source"], info["start"], info["stride"]))
        assert info["index"] == number and info["fps"] == 30 / info["stride"]
        frames = video.read(videos.parent / info["source"])[info["start"] :: info["stride"]][: info["frames"]]
        first = fit(frames[0], 64, 48, "pad", "lanczos")
        fitted = np.stack([fit_alike(frame, first, "lanczos") for frame in frames])
        # Folded by hand: 2x2 pixels into channels, from [0, 255] to [-1, 1].
        pixels = torch.from_numpy(fitted).float().permute(0, 3, 1, 2) / 127.5 - 1
        vae: Any = networks.vae
        posterior = vae.encode(torch.nn.functional.pixel_unshuffle(pixels, 2)).latent_dist
        assert clip.latents_mean.shape == clip.latents_logvar.shape == (4, 4, 16, 12)
        torch.testing.assert_close(clip.latents_mean, posterior.mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(clip.latents_logvar, posterior.logvar, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(clip.first_frame, first.pixels)
        boxes = fitted.reshape(4, 16, 4, 12, 4, 3).astype(float).mean(axis=(2, 4))
        assert clip.rgb.dtype == np.uint8 and np.abs(clip.rgb - boxes).max() <= 0.51
        eyes = clip_pixels(clip.first_frame[None], load_processor(model), config)
        torch.testing.assert_close(clip.clip_hidden_states, networks.image_encoder(eyes).last_hidden_state[0])
    assert len(seen) == 12


def test_statistics_are_those_of_samples(cache: Path):
    clips = LatentCache(cache)
    mean, std = clips.statistics()
    generator = torch.Generator().manual_seed(0)
    samples = torch.cat(
        [
            clip.latents_mean
            + torch.randn(clip.latents_mean.shape, generator=generator) * torch.exp(0.5 * clip.latents_logvar)
            for clip in clips
        ]
    )
    torch.testing.assert_close(mean, samples.mean(dim=(0, 2, 3)), atol=0.05, rtol=0)
    torch.testing.assert_close(std, samples.std(dim=(0, 2, 3)), atol=0.05, rtol=0)


def test_splits_are_told_apart(cache: Path):
    parts = [LatentCache(cache, split) for split in ("train", "test", "val")]
    assert [len(part) for part in parts] == [9, 3, 0]
    assert parts[1][2].info["index"] == 2 and "a+b" in parts[1][2].info["source"]
    with pytest.raises(FashionFlowError, match="contains no clips"):
        parts[2].statistics()
    with pytest.raises(IndexError):
        parts[1][3]


def _read(cache: LatentCache, number: int) -> CachedClip:
    return cache[number]


@pytest.mark.slow
def test_workers_that_are_spawned_read_the_same(cache: Path):
    clips = LatentCache(cache)
    clips[0]
    assert len(pickle.dumps(clips)) < 20_000
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(_read, clips, 5).result()
    assert torch.equal(there.latents_mean, clips[5].latents_mean) and there.info == clips[5].info


def test_shards_are_filled_and_nothing_else_is_left(cache: Path):
    assert sorted(content(cache)) == [*(f"clips-{number:05}.safetensors" for number in range(6)), "index.json"]
    assert {path.stat().st_mode & 0o777 for path in cache.glob("clips-*")} == {
        (cache / "index.json").stat().st_mode & 0o777
    }


def test_the_model_it_was_made_for_is_checked(cache: Path, model: Path, tmp_path: Path):
    clips, config = LatentCache(cache), ModelConfig.load(model)
    clips.check(config)
    clips.check(config, model)
    clips.check(replace(config, name="other", frames=2, latents_std=(2.0,) * 4, steps=9))
    for change, words in (
        ({"vae_range": "zero_one"}, "vae_range minus_one_one .*tiny.* other has vae_range zero_one"),
        ({"fit": "crop"}, "fit pad .* fit crop"),
        ({"latents_mean": (0.0,), "latents_std": (1.0,)}, "latent channels 4 .* latent channels 1"),
    ):
        with pytest.raises(FashionFlowError, match=words):
            clips.check(replace(config, name="other", **change))
    other = build_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(FashionFlowError, match=r"encoded with vae [0-9a-f]{16} .* has vae [0-9a-f]{16}"):
        clips.check(config, other)


@pytest.mark.parametrize(("part", "fits"), [("decoder.", True), ("post_quant_conv.", True), ("encoder.", False)])
def test_a_decoder_may_be_trained_on_and_the_cache_stays_good(
    cache: Path, model: Path, tmp_path: Path, part: str, fits: bool
):
    shutil.copytree(model, tmp_path / "model")
    (file,) = (tmp_path / "model" / "vae").glob("*.safetensors")
    weights = load_file(file)
    changed = next(name for name in weights if name.startswith(part))
    save_file(weights | {changed: weights[changed] + 1}, file, metadata={"format": "pt"})
    check = partial(LatentCache(cache).check, ModelConfig.load(tmp_path / "model"), tmp_path / "model")
    if fits:
        check()
    else:
        with pytest.raises(FashionFlowError, match="encoded with vae"):
            check()


def test_any_number_of_workers_gives_the_same_bytes(videos: Path, cache: Path, model: Path, tmp_path: Path):
    run(videos, tmp_path / "c", model, workers=5)
    assert content(tmp_path / "c") == content(cache)


class Died(BaseException):
    """As a kill: nothing that runs after it may repair anything."""


@pytest.mark.parametrize("call", ["replace", "unlink"])
def test_a_run_that_dies_at_any_step_is_taken_up(
    videos: Path, cache: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    """Every change of the folder is a rename or a removal; a run dies before the n-th of them, for every n."""
    whole, folder = content(cache), tmp_path / "c"
    original: Callable[..., Any] = getattr(Path, call)
    encoded, step, alive = 0, 0, False
    while not alive:
        shutil.rmtree(folder, ignore_errors=True)
        step += 5
        left = step

        def dying(self: Path, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= folder in self.parents
            if left == 0:
                raise Died
            if left < 0 and call == "unlink":  # cleaning up after the death
                return None
            return original(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, call, dying)
            try:
                run(videos, folder, model)
                alive = True
            except Died:
                pass
        if (folder / "index.json").exists():
            finished = len(LatentCache(folder)) + len(list((folder / "parts").glob("[!.]*")))
            for clip in LatentCache(folder):
                assert torch.isfinite(clip.latents_mean).all()
            made = run(videos, folder, model)
            # A part that is in a shard already may have been counted twice.
            assert made.kept >= min(finished, 12) - 2 and made.encoded + made.kept == 12
            encoded += made.encoded
        else:
            run(videos, folder, model)
        assert content(folder) == whole
    assert step > 9 and encoded


def test_new_renamed_and_changed_videos(videos: Path, cache: Path, model: Path, tmp_path: Path):
    folder, copy = tmp_path / "cache", tmp_path / "videos"
    shutil.copytree(videos, copy)
    run(copy, folder, model)
    before = {clip.info["sha256"]: clip for clip in LatentCache(folder)}

    (copy / "train" / "e.mp4").rename(copy / "test" / "moved.mp4")
    video.write(moving(20, 48, 40), copy / "train" / "f.mp4", fps=24, count=20)
    video.write(moving(9, 48, 40), copy / "train" / "new.mp4", fps=25, count=9)
    made = run(copy, folder, model)
    assert (made.encoded, made.kept, made.clips) == (6, 9, 15)
    names = sorted({(clip.info["source"], clip.info["split"]) for clip in LatentCache(folder)})
    assert names == [
        (f"videos/{name}", name.split("/")[0])
        for name in ("test/a+b.mp4", "test/moved.mp4", "train/c d.mp4", "train/f.mp4", "train/new.mp4")
    ]
    after = LatentCache(folder)
    assert {name: source["fps"] for name, source in after.index["sources"].items()}["videos/train/f.mp4"] == 24
    kept = [clip for clip in after if clip.info["source"].endswith("moved.mp4")]
    assert all(clip.info["sha256"] in before for clip in kept) and len(kept) == 3

    # What is not looked at now stays as it is.
    shutil.rmtree(copy / "test")
    assert run(copy, folder, model).clips == 15


def test_a_lost_or_damaged_shard_is_made_again(videos: Path, cache: Path, model: Path, tmp_path: Path):
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    shards = sorted(folder.glob("clips-*"))
    shards[1].unlink()
    shards[4].write_bytes(shards[4].read_bytes()[:-100])
    with pytest.raises(FashionFlowError, match=r"clips-00001\.safetensors: missing or damaged"):
        LatentCache(folder)[2]
    made = run(videos, folder, model)
    assert (made.encoded, made.kept, made.clips) == (4, 8, 12)
    clips = {(c.info["sha256"], c.info["start"], c.info["stride"]): c for c in LatentCache(folder)}
    for clip in LatentCache(cache):
        same = clips[clip.info["sha256"], clip.info["start"], clip.info["stride"]]
        assert torch.equal(same.latents_mean, clip.latents_mean)


def test_a_shard_that_changed_is_refused_by_its_hash_and_made_again(
    videos: Path, cache: Path, model: Path, tmp_path: Path
):
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    shard = sorted(folder.glob("clips-*"))[0]
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1  # opens, and has finite numbers
    shard.write_bytes(damaged)
    with pytest.raises(FashionFlowError, match=r"clips-00000\.safetensors: damaged \(SHA-256 differs"):
        LatentCache(folder)[0]
    assert len(list(LatentCache(folder).index["shards"])) == 6
    assert run(videos, folder, model).encoded == 2
    assert sum(1 for _ in LatentCache(folder)) == 12
    # Caches of older versions have no hashes, and are read as they are.
    index = json.loads((folder / "index.json").read_text())
    del index["shards"]
    (folder / "index.json").write_text(json.dumps(index))
    assert sum(1 for _ in LatentCache(folder)) == 12
    assert run(videos, folder, model).kept == 12


@pytest.mark.parametrize("name", ["latents_mean", "clip_hidden_states", "moments"])
def test_values_that_are_not_finite_name_their_clip(cache: Path, tmp_path: Path, name: str):
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    shard = sorted(folder.glob("clips-*"))[0]
    tensors = load_file(shard)
    tensors[f"1.{name}"].view(-1)[3] = float("nan")
    save_file(tensors, shard)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][shard.name] = hashlib.sha256(shard.read_bytes()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))
    opened = LatentCache(folder)
    clip = index["clips"][1]
    assert torch.isfinite(opened[0].latents_mean).all()
    with pytest.raises(FashionFlowError, match=f"clip 1 .of {re.escape(clip['source'])}.*{name}.*not finite") as caught:
        opened.statistics() if name == "moments" else opened[1]
    assert shard.name in str(caught.value) and "prepare the cache again" in str(caught.value.hint)


def test_what_cannot_be_encoded_is_named(videos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise FashionFlowError("torch.float16: encoding returned values that are not finite", "use bf16")

    monkeypatch.setattr("fashionflow_core.dataset.encoder.Encoder.__call__", broken)
    with pytest.raises(FashionFlowError, match=r"videos/test/a\+b\.mp4, frame \d+ on: torch.float16: encoding"):
        run(videos, tmp_path / "cache", model)


def test_other_settings_are_refused_and_named(videos: Path, cache: Path, model: Path, tmp_path: Path):
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    with pytest.raises(
        FashionFlowError, match=r"other settings: frames was 4, now 6; clips_per_video was 3, now 2; seed"
    ):
        run(videos, folder, model, clips=2, recipe={"frames": 6, "seed": 1})
    assert content(folder) == content(cache)
    made = run(videos, folder, model, clips=2, recipe={"frames": 6, "seed": 1}, overwrite=True)
    assert made.encoded == len(LatentCache(folder)) == 8 and LatentCache(folder)[0].latents_mean.shape[0] == 6
    run(videos, tmp_path / "fresh", model, clips=2, recipe={"frames": 6, "seed": 1})
    assert content(folder) == content(tmp_path / "fresh")


def test_a_motion_model_encodes_no_videos(tmp_path: Path):
    conventions = {"latents": "motion", "keyframes": 12, "keyframe_seconds": 0.25, "known_content": "photo"}
    (tmp_path / "model.json").write_text(tiny_config(name="mini", **conventions).to_json())
    with pytest.raises(UsageError, match="mini: a motion model") as refusal:
        Recipe.of(tmp_path, CPU)
    assert "fit motion clips" in str(refusal.value.hint)


def test_only_caches_are_written_to(videos: Path, model: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("")
    for overwrite in (False, True):
        with pytest.raises(
            FashionFlowError, match=r"mine: not empty, and not a cache of clips \(contains thesis\.txt\)"
        ):
            run(videos, tmp_path / "mine", model, overwrite=overwrite)
        with pytest.raises(FashionFlowError, match="file: is a file, not a folder"):
            run(videos, tmp_path / "file", model, overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_cannot_be_used_is_told_and_the_rest_is_done(videos: Path, model: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    shutil.copytree(videos / "train", folder)
    shutil.copy(folder / "e.mp4", folder / "e again.mp4")
    video.write(moving(3, 48, 40), folder / "short.mp4", fps=25, count=3)
    (folder / "broken.mp4").write_bytes((folder / "f.mp4").read_bytes()[:2000])
    recipe = Recipe.of(model, CPU, clips_per_video=2)
    plan = make_plan(named_videos([folder]), recipe)
    assert [entry.source for entry in plan.left_out] == ["videos/broken.mp4", "videos/short.mp4"]
    assert "short.mp4: 3 frames, but a clip needs 4" in plan.left_out[1].reason
    (remark,) = plan.remarks
    assert "e.mp4: same video as videos/e again.mp4" in remark
    cache = tmp_path / "cache"
    assert plan.count == 6 and estimate(plan, cache, model, recipe, False)["already"] == 0 and not cache.exists()

    # Damaged after it was looked at: what came before the damage stays.
    video.write(moving(6, 48, 40), folder / "f.mp4", fps=25, count=6)
    made = prepare(plan, cache, model, recipe, CPU)
    (late,) = made.left_out[2:]
    assert late.source == "videos/f.mp4" and re.search(r"ends before frame \d+ of 19", late.reason)
    assert made.encoded == made.clips >= 4
    assert estimate(plan, cache, model, recipe, False)["already"] == made.clips


def test_sizes_are_told_beforehand(cache: Path, model: Path):
    found = sizes(model, ModelConfig.load(model), 4)
    clip = LatentCache(cache)[0]
    assert (4, *found.latents) == tuple(clip.latents_mean.shape) and found.tokens == tuple(
        clip.clip_hidden_states.shape
    )
    stored = (cache / "clips-00000.safetensors").stat().st_size / 2
    assert found.clip_bytes == pytest.approx(stored, rel=0.1)


def test_an_index_that_is_none_says_so(tmp_path: Path):
    with pytest.raises(FashionFlowError, match="not a cache of clips"):
        LatentCache(tmp_path)
    for text, words in {"{": "unreadable", "[]": "not an index", '{"format": 99}': "format 1"}.items():
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(FashionFlowError, match=words):
            LatentCache(tmp_path)
