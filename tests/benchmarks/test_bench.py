"""Benchmarks: what is timed, what is counted, and what a result holds."""

import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import build_tiny_model

from fashionflow_benchmarks import report, step, timing
from fashionflow_benchmarks.model_under_test import FULL
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.runtimes import flops

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", known_content="rgb")


@pytest.fixture(scope="module")
def result(tiny: Path) -> dict[str, Any]:
    return step.bench_step(tiny, dtype="fp32", device="cpu", repeats=3)


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


@pytest.mark.slow
def test_step_in_half_precision_of_given_size(tiny: Path) -> None:
    result = step.bench_step(tiny, frames=2, height=8, width=4, dtype="bf16", device="cpu", repeats=1)
    assert [result["input"][key] for key in ("frames", "height", "width")] == [2, 8, 4]
    assert result["hardware"]["dtype"] == "bfloat16"
    assert result["difference"]["max_abs"] < 0.2


@pytest.mark.slow
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
        flop = flops.count_flop(unet, (1, 4, *FULL), (1,), (1, 50, 768))
    assert flop / 2e9 == pytest.approx(810.4, abs=0.1)


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
        ({"suites": []}, "no suites"),
        ({"note": math.nan}, "not finite"),
    ],
)
def test_bad_results_are_not_written(
    result: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(FashionFlowError, match=message):
        report.write(report.join([result]) | change, tmp_path / "step.json")
    incomplete = {key: value for key, value in result.items() if key != "input"}
    with pytest.raises(FashionFlowError, match="step: missing input"):
        report.write(report.join([incomplete]), tmp_path / "step.json")
    row = {key: value for key, value in result["results"]["ours"].items() if key != "flop"}
    with pytest.raises(FashionFlowError, match="step, ours: missing flop"):
        report.write(report.join([result | {"results": {"ours": row}}]), tmp_path / "step.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 2}'])
def test_other_files_are_not_results(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(FashionFlowError, match="other"):
        report.read(path)
    with pytest.raises(FashionFlowError, match="no such file"):
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
