"""Benchmarks: what is timed, what is counted, and what a result holds."""

import json
import math
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import build_tiny_model

from fashionflow_benchmarks import limits, report, suites, timing
from fashionflow_benchmarks.limits import Work
from fashionflow_benchmarks.subject import FULL, REDUCED, Request, open_subject
from fashionflow_benchmarks.suites import networks, scaling, step
from fashionflow_benchmarks.timing import Timing
from fashionflow_core import cost
from fashionflow_core.errors import FashionFlowError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", known_content="rgb")


@pytest.fixture(scope="module")
def result(tiny: Path) -> dict[str, Any]:
    return step.bench_step(tiny, dtype="float32", device="cpu", repeats=3)


def test_step_of_a_model_folder(result: dict[str, Any], tiny: Path) -> None:
    assert result["model"]["name"] == "tiny"
    saved = json.loads((tiny / "unet" / "config.json").read_text())
    assert result["model"]["config"] == {key: value for key, value in saved.items() if not key.startswith("_")}
    assert result["input"] == {
        "batch": 1,
        "channels": 8,
        "frames": 4,
        "height": 16,
        "width": 12,
        "context_tokens": 17,
        "context_dim": 32,
    }
    ours, literal = result["results"]["ours"], result["results"]["literal"]
    for row in (ours, literal):
        assert len(row["seconds"]) == 3 and min(row["seconds"]) > 0
        assert row["median_s"] == statistics.median(row["seconds"])
        assert row["lower_quartile_s"] <= row["median_s"] <= row["upper_quartile_s"]
    assert result["ratios"]["time"] == literal["median_s"] / ours["median_s"]
    assert 1 <= result["ratios"]["flop"] < 1.05  # ours never does more arithmetic, and the network is the same


def test_step_compares_the_same_network(result: dict[str, Any]) -> None:
    difference = result["difference"]
    assert difference["output_std"] > 0.05
    assert 0 < difference["max_abs"] < 1e-4  # never exactly 0: the two sum in different orders


def test_step_names_its_hardware(result: dict[str, Any]) -> None:
    hardware = result["hardware"]
    assert hardware["device"] == "cpu" and hardware["dtype"] == "float32" and hardware["gpu"] is None
    assert hardware["torch"] == torch.__version__
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["cpu"] and hardware["date"].endswith("+00:00")
    assert hardware["commit"] is None or len(hardware["commit"]) == 40


def test_step_in_half_precision_of_given_size(tiny: Path) -> None:
    result = step.bench_step(tiny, frames=2, height=8, width=4, dtype="bfloat16", device="cpu", repeats=1)
    assert [result["input"][key] for key in ("frames", "height", "width")] == [2, 8, 4]
    assert result["hardware"]["dtype"] == "bfloat16"
    assert result["difference"]["max_abs"] < 0.2


def test_step_without_a_model_is_the_published_architecture() -> None:
    result = step.bench_step(None, frames=2, height=16, width=16, device="cpu", repeats=1)
    assert result["model"]["parameters"] == 71_671_548
    assert result["input"]["channels"] == 4 and result["input"]["context_tokens"] == 50
    assert result["difference"]["max_abs"] < 1e-3


def test_arithmetic_of_a_published_pass() -> None:
    """Reference README: 810.4 GMAC at 4x70x80x64."""
    from fashionflow_core.models import FashionFlowUNet

    with torch.device("meta"):
        unet = FashionFlowUNet().eval()
        flop = cost.count_flop(unet, (1, 4, *FULL), (1,), (1, 50, 768))
    assert flop / 2e9 == pytest.approx(810.4, abs=0.1)


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
    found = cost.count_traffic(forward, *shapes)
    if forward is torch.nn.functional.scaled_dot_product_attention:
        assert 4 * floats <= found < 4 * floats * 1.1  # and the logarithms of its sums
    else:
        assert found == 4 * floats


def test_half_precision_halves_the_traffic() -> None:
    linear = torch.nn.Linear(64, 64).to(torch.bfloat16)
    assert (
        cost.count_traffic(lambda x: linear(x.bfloat16()), (8, 64)) == 2 * (8 * 64 + 64 * 64 + 64 + 8 * 64) + 6 * 8 * 64
    )


def test_shares_of_the_limits() -> None:
    timings = {"call": Timing((2.0, 2.0), None, None), "unknown": Timing((1.0,), None, None)}
    found = limits.rows(timings, {"call": Work(8, 30)}, limits.Limits(16.0, 20.0))
    assert (found["call"]["matmul_share"], found["call"]["copy_share"]) == (0.25, 0.75)
    assert found["unknown"]["matmul_share"] is None and found["unknown"]["flop"] is None


def test_limits_are_those_of_the_machine() -> None:
    found = limits.measure_limits(CPU, torch.float32)
    assert 1e9 < found.matmul_flop_per_s < 1e14 and 1e8 < found.copy_bytes_per_s < 1e13


def test_exponents() -> None:
    sizes = [1, 2, 4, 8]
    assert scaling.exponent(sizes, [3 * size for size in sizes]) == pytest.approx(1)
    assert scaling.exponent(sizes, [size**2 / 7 for size in sizes]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["vae", "clip", "video", "batch", "memory"])
def test_suites_of_a_model_folder(tiny: Path, name: str) -> None:
    noted: list[str] = []
    (result,) = suites.run([name], Request(str(tiny), device="cpu", repeats=2), noted.append)
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


def test_every_second_of_a_video_has_a_stage(tiny: Path) -> None:
    (result,) = suites.run(["video"], Request(str(tiny), device="cpu", repeats=3, steps=3), lambda _: None)
    rows = result["results"]
    stages = [name for name in rows if name != "photo to mp4"]
    assert stages == ["photo", "encode", "denoise", "decode", "write", "other"]
    assert all(min(rows[name]["seconds"]) > 0 for name in stages)
    whole = min(rows["photo to mp4"]["seconds"])
    watched = sum(min(rows[name]["seconds"]) for name in stages)
    assert 0.3 * whole < watched < 3 * whole  # the machine's other work comes and goes between the two
    unet = rows["denoise"]["flop"] / 3
    once = open_subject(Request(str(tiny), device="cpu")).networks.count_flop(4)
    assert unet == once["denoise"] and rows["decode"]["flop"] == 4 * once["decode"]


def test_a_frame_decoded_in_a_chunk(tiny: Path) -> None:
    result = networks.vae(Request(str(tiny), device="cpu", repeats=1))
    rows = result["results"]
    assert rows["decode 4"]["flop"] == 4 * rows["decode 1"]["flop"]
    assert result["per_frame_s"]["decode 4"] == rows["decode 4"]["median_s"] / 4


@pytest.mark.slow
def test_growth_of_the_published_architecture() -> None:
    result = scaling.scale(Request(device="cpu", frames=2, height=16, width=16, repeats=2))
    for axis in ("frames", "pixels", "batch"):
        assert result["exponents"][axis]["flop"] == pytest.approx(1, abs=0.05)
        assert 0.3 < result["exponents"][axis]["seconds"] < 1.7
    report.check(report.join([result]))


@pytest.mark.slow
def test_the_claim_four_ways() -> None:
    """Reduced widths; arithmetic of whole videos is that of the baselines' own calls."""
    (result,) = suites.run(["dreampose"], Request(device="cpu", repeats=1, frames=2, steps=3), lambda _: None)
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
    text = report.text(result)
    assert "the paper reports (a) over (b) as 9.3" in text and "not measured here" in text


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["stpe"], {}, "no suite 'stpe'"),
        (["scale"], {"model": "mini"}, "bench scale"),
        (["dreampose"], {"model": "mini"}, "bench dreampose"),
        (["vae"], {"model": "mini", "height": 8, "width": 8}, "--latent-size"),
    ],
)
def test_suites_refuse(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(suites.run(names, replace(Request(device="cpu"), **options), lambda _: None))


def test_sizes_are_reduced_where_they_would_take_minutes() -> None:
    assert Request().sizes(CPU)[0] == REDUCED and "reduced" in str(Request().sizes(CPU)[1])
    assert Request(full=True).sizes(CPU) == (FULL, None)
    assert Request().sizes(torch.device("cuda")) == (FULL, None)
    assert Request(frames=6).sizes(CPU)[0] == (6, *REDUCED[1:])


def test_pictures(tiny: Path, result: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image

    from fashionflow_benchmarks import plots

    plots.draw(result, tmp_path / "step.png")
    with Image.open(tmp_path / "step.png") as picture:
        assert picture.format == "PNG" and picture.width > 500
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None and (0x2F, 0x6D, 0xB3) in {colour for _, colour in colours}  # the bars


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"repeats": 0}, UsageError, "--repeats"),
        ({"dtype": "float8"}, UsageError, "float8"),
        ({"device": "abacus"}, UsageError, "abacus"),
        ({"frames": 3}, FashionFlowError, "multiple of 2"),
        ({"width": 6}, FashionFlowError, "multiple of 4"),
    ],
)
def test_step_refuses(tiny: Path, options: dict[str, Any], kind: type[FashionFlowError], message: str) -> None:
    with pytest.raises(kind, match=message):
        step.bench_step(tiny, **{"device": "cpu", **options})


def test_step_refuses_a_model_without_weights(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "model.json").write_text((tiny / "model.json").read_text())
    with pytest.raises(FashionFlowError, match=str(tmp_path)):
        step.bench_step(tmp_path, device="cpu")


def test_result_round_trips(result: dict[str, Any], tmp_path: Path) -> None:
    path, content = tmp_path / "step.json", report.join([result])
    report.write(content, path)
    assert json.loads(path.read_text()) == content == report.read(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("markdown", [False, True])
def test_table_shows_what_was_measured(result: dict[str, Any], markdown: bool) -> None:
    text = report.text(result, markdown)
    for row in result["results"].values():
        assert f"{row['median_s']:.4f}" in text
    assert f"time: {result['ratios']['time']:.3f}" in text
    assert f"{result['difference']['max_abs']:.2e}" in text
    assert result["hardware"]["cpu"] in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema is 99"),
        ({"suites": []}, "lacks suites"),
        ({"note": math.nan}, "not finite"),
    ],
)
def test_bad_results_are_not_written(
    result: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(FashionFlowError, match=message):
        report.write(report.join([result]) | change, tmp_path / "step.json")
    incomplete = {key: value for key, value in result.items() if key != "input"}
    with pytest.raises(FashionFlowError, match="step lacks input"):
        report.write(report.join([incomplete]), tmp_path / "step.json")
    row = {key: value for key, value in result["results"]["ours"].items() if key != "flop"}
    with pytest.raises(FashionFlowError, match="step, ours: lacks flop"):
        report.write(report.join([result | {"results": {"ours": row}}]), tmp_path / "step.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 2}'])
def test_other_files_are_not_results(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(FashionFlowError, match="other"):
        report.read(path)
    with pytest.raises(FashionFlowError, match="does not exist"):
        report.read(tmp_path / "absent.json")


def test_measuring_alternates_and_finds_the_slower() -> None:
    calls: list[str] = []

    def quick() -> None:
        calls.append("quick")

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.02)

    timings = timing.measure({"quick": quick, "slow": slow}, CPU, repeats=3, warmup=2)
    warmup, rounds, memory = calls[:4], calls[4:10], calls[10:]
    assert sorted(warmup) == ["quick", "quick", "slow", "slow"]
    assert rounds == ["quick", "slow", "slow", "quick", "quick", "slow"]
    assert sorted(memory) == ["quick", "slow"]
    assert min(timings["slow"].seconds) >= 0.02 > statistics.median(timings["quick"].seconds)


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 1), (1, -1)])
def test_measuring_nothing_is_refused(repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="repeats"):
        timing.measure({}, CPU, repeats, warmup)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process's memory of one call")
def test_memory_of_a_call() -> None:
    size = 64 * 2**20
    timings = timing.measure(
        {"large": lambda: torch.ones(size, dtype=torch.uint8), "small": lambda: torch.ones(1)}, CPU, repeats=1
    )
    large, small = timings["large"].call_memory_bytes, timings["small"].call_memory_bytes
    assert large is not None and small is not None
    assert size <= large + 2**20 and large < 1.25 * size
    assert small < size / 8


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_quantiles_are_those_of_torch(count: int) -> None:
    values = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        expected = torch.quantile(values, fraction).item()
        assert timing.quantile(tuple(values.tolist()), fraction) == pytest.approx(expected)


@pytest.mark.gpu
def test_step_on_a_gpu(tiny: Path) -> None:
    result = step.bench_step(tiny, device="cuda", repeats=2)
    assert result["hardware"]["gpu"] and result["hardware"]["cuda"]
    assert result["results"]["ours"]["call_memory_bytes"] > 0
    assert result["difference"]["max_abs"] < 0.01
