"""Suites of the bench: their arithmetic by hand, what each measures, and what they refuse."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniatures import Miniature
from PIL import Image
from tiny import build_tiny_model

from fashionflow_benchmarks import (
    dreampose_comparison,
    networks,
    report,
    roofline,
    scaling,
    shapes,
    step,
    suites,
    video,
)
from fashionflow_benchmarks.model_under_test import FULL, REDUCED, BenchRequest, open_subject
from fashionflow_benchmarks.roofline import CallCost
from fashionflow_benchmarks.timing import Timing
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.runtimes import flops

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", known_content="rgb")


@pytest.mark.parametrize(
    ("forward", "shapes", "floats"),
    [
        (torch.nn.Linear(64, 128), [(10, 64)], 10 * 64 + 64 * 128 + 128 + 10 * 128),
        (torch.nn.Conv2d(3, 5, 3, padding=1), [(2, 3, 8, 8)], 2 * 3 * 64 + 3 * 5 * 9 + 5 + 2 * 5 * 64),
        (torch.nn.SiLU(), [(7,)], 2 * 7),
        (lambda x: x.view(2, -1).t()[:1], [(8,)], 0),  # views move nothing
        (lambda x: x.t().contiguous(), [(2, 4)], 2 * 8),
        (lambda x: x.add_(1), [(8,)], 2 * 8),
        (lambda x, y: x + y, [(4, 8), (1, 8)], 4 * 8 + 8 + 4 * 8),
        (lambda x, y: x + y.expand(4, 8), [(4, 8), (1, 8)], 4 * 8 + 8 + 4 * 8),  # what is broadcast is read once
        (torch.nn.functional.scaled_dot_product_attention, [(1, 2, 16, 8)] * 3, 4 * 256),
    ],
    ids=["linear", "convolution", "pointwise", "views", "copy", "in place", "sum", "broadcast", "attention"],
)
def test_traffic_by_hand(forward: Any, shapes: list[tuple[int, ...]], floats: int) -> None:
    """Every operator reads its tensors and writes its result once, in float32."""
    found = flops.count_traffic(forward, *shapes)
    if forward is torch.nn.functional.scaled_dot_product_attention:
        assert 4 * floats <= found < 4 * floats * 1.1  # and the logarithms of its sums
    else:
        assert found == 4 * floats


def test_half_precision_halves_the_traffic() -> None:
    linear = torch.nn.Linear(64, 64).to(torch.bfloat16)
    expected = 2 * (8 * 64 + 64 * 64 + 64 + 8 * 64) + 6 * 8 * 64
    assert flops.count_traffic(lambda x: linear(x.bfloat16()), (8, 64)) == expected


def test_shares_of_the_limits() -> None:
    timings = {"call": Timing((2.0, 2.0), None, None), "unknown": Timing((1.0,), None, None)}
    found = roofline.rows(timings, {"call": CallCost(8, 30)}, roofline.Roofline(16.0, 20.0))
    assert (found["call"]["matmul_share"], found["call"]["copy_share"]) == (0.25, 0.75)
    assert found["unknown"]["matmul_share"] is None and found["unknown"]["flop"] is None


def test_limits_are_those_of_the_machine() -> None:
    found = roofline.measure_limits(CPU, torch.float32)
    assert 1e9 < found.matmul_flop_per_s < 1e14 and 1e8 < found.copy_bytes_per_s < 1e13


def test_exponents() -> None:
    sizes = [1, 2, 4, 8]
    assert scaling.exponent(sizes, [3 * size for size in sizes]) == pytest.approx(1)
    assert scaling.exponent(sizes, [size**2 / 7 for size in sizes]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["vae", "clip", "video", pytest.param("batch", marks=pytest.mark.slow), "memory"])
def test_suites_of_a_model_folder(tiny: Path, name: str) -> None:
    noted: list[str] = []
    (result,) = suites.run([name], BenchRequest(str(tiny), device="cpu", repeats=2), noted.append)
    assert noted == [name] == [result["suite"]]
    content = report.join([result])
    report.check(content)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert result["reduced"] is None and result["model"]["parameters"]["unet"] > 0
    for row in result["results"].values():
        assert len(row["seconds"]) == result["repeats"] and min(row["seconds"]) >= 0
    text, markdown = report.text(result), report.text(result, markdown=True)
    for row in result["results"]:
        assert row in text and f"| {row} |" in markdown


@pytest.mark.slow
def test_every_second_of_a_video_has_a_stage(tiny: Path, tmp_path: Path) -> None:
    request = BenchRequest(str(tiny), device="cpu", repeats=1, steps=3)
    (result,) = suites.run(["video"], request, lambda _: None)
    rows = result["results"]
    stages = [name for name in rows if name != "photo to mp4"]
    assert stages == ["photo", "encode", "denoise", "decode", "write", "other"]
    subject = open_subject(request)
    Image.fromarray(subject.photo(1)).save(tmp_path / "photo.png")
    start = time.perf_counter()
    seconds = video.by_stage(subject, tmp_path / "photo.png", tmp_path / "video.mp4")
    # No stage is counted twice, whatever else the machine does meanwhile.
    assert min(seconds.values()) > 0 and sum(seconds.values()) <= time.perf_counter() - start
    unet = rows["denoise"]["flop"] / 3
    once = subject.networks.count_flop(4)
    assert unet == once["denoise"] and rows["decode"]["flop"] == 4 * once["decode"]


@pytest.mark.slow
def test_the_suite_video_of_a_pipeline_of_diffusers(miniature: Miniature, tmp_path: Path) -> None:
    place = miniature("ltx", tmp_path)
    request = BenchRequest(str(place), device="cpu", repeats=1, steps=1, frames=9)
    (result,) = suites.run(["video"], request, lambda _: None)
    report.check(report.join([result]))
    assert list(result["results"]) == ["photo to mp4", "photo", "generate", "write", "other"]
    assert result["results"]["generate"]["seconds"][0] > 0
    assert result["input"]["frames"] == 9 and result["model"]["parameters"]["transformer"] > 1000
    with pytest.raises(UsageError, match="8k"):
        list(suites.run(["video"], replace(request, frames=10), lambda _: None))


def test_a_frame_decoded_in_a_chunk(tiny: Path) -> None:
    result = networks.vae(BenchRequest(str(tiny), device="cpu", repeats=1))
    rows = result["results"]
    assert rows["decode 4"]["flop"] == 4 * rows["decode 1"]["flop"]
    assert result["per_frame_s"]["decode 4"] == rows["decode 4"]["median_s"] / 4


@pytest.mark.slow
def test_growth_of_the_published_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SMALL_FRAMES", (4, 8))
    monkeypatch.setattr(scaling, "BATCHES", (2, 4))
    result = scaling.scale(BenchRequest(device="cpu", frames=2, height=16, width=16, repeats=1))
    for axis in ("frames", "pixels", "batch"):
        assert result["exponents"][axis]["flop"] == pytest.approx(1, abs=0.05)
        rows = {name: row for name, row in result["results"].items() if name.startswith(axis)}
        sizes = [result["input"]["sizes"][name] for name in rows]
        medians = [row["median_s"] for row in rows.values()]
        assert result["exponents"][axis]["seconds"] == scaling.exponent(sizes, medians)
        assert sizes == sorted(set(sizes)) and min(medians) > 0
    report.check(report.join([result]))


@pytest.mark.slow
def test_the_claim_four_ways() -> None:
    """Reduced widths; arithmetic of whole videos is that of the baselines' own calls."""
    small = replace(shapes.REDUCED, frames=2)
    result = dreampose_comparison.dreampose(BenchRequest(device="cpu", repeats=1, steps=3), small)
    report.check(report.join([result]))
    rows = result["results"]
    assert result["reduced"] and result["arithmetic"] == pytest.approx(12.2, abs=0.05)
    assert len([name for name in rows if name.endswith(("encode", "clip", "denoise", "decode"))]) == 16
    for key, steps, frames in (("a", 101, 2), ("d", 101, 1)):
        parts = {stage: rows[f"({key}) {stage}"]["median_s"] for stage in ("encode", "clip", "denoise", "decode")}
        calls = (3 * frames, 2 * frames) if key == "a" else (1, 1)
        counted = calls[0] * parts["encode"] + calls[1] * parts["clip"] + steps * frames * parts["denoise"]
        assert rows[f"({key}) video"]["median_s"] == pytest.approx(counted + frames * parts["decode"])
    quick, slow = (rows[f"(c) video, {steps} steps"] for steps in (3, 1000))
    assert slow["flop"] - quick["flop"] == 997 * rows["(c) denoise"]["flop"]
    assert result["ratios"]["(a) over (b): the paper's claim"] == (
        rows["(a) video"]["median_s"] / rows["(b) video"]["median_s"]
    )
    assert result["ratio_ranges"] == {}, "one repeat has no range"
    text = report.text(result)
    assert "the paper reports (a) over (b) as 9.3" in text and "not measured here" in text


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["stpe"], {}, "unknown suite 'stpe'"),
        (["scale"], {"model": "mini-latent"}, "bench scale"),
        (["dreampose"], {"model": "mini-latent"}, "bench dreampose"),
        (["vae"], {"model": "mini-latent", "height": 8, "width": 8}, "--latent-size"),
        (["step"], {"narrow": True}, "--narrow"),
        (["dreampose"], {"narrow": True, "full": True}, "--full, --narrow"),
    ],
)
def test_suites_refuse(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(suites.run(names, replace(BenchRequest(device="cpu"), **options), lambda _: None))


def test_the_claim_refuses_sizes_before_it_makes_networks() -> None:
    with pytest.raises(FashionFlowError, match="3 frames"):
        dreampose_comparison.dreampose(BenchRequest(device="cpu", frames=3))


def test_sizes_are_reduced_where_they_would_take_minutes() -> None:
    assert BenchRequest().sizes(CPU)[0] == REDUCED and "reduced" in str(BenchRequest().sizes(CPU)[1])
    assert BenchRequest(full=True).sizes(CPU) == (FULL, None)
    assert BenchRequest().sizes(torch.device("cuda")) == (FULL, None)
    assert BenchRequest(frames=6).sizes(CPU)[0] == (6, *REDUCED[1:])


@pytest.mark.slow
def test_pictures(tiny: Path, tmp_path: Path) -> None:
    from PIL import Image

    from fashionflow_benchmarks import plots

    result = step.bench_step(tiny, device="cpu", repeats=2)
    plots.draw(result, tmp_path / "step.png")
    with Image.open(tmp_path / "step.png") as picture:
        assert picture.format == "PNG" and picture.width > 500
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None and (0x2F, 0x6D, 0xB3) in {colour for _, colour in colours}  # the bars
