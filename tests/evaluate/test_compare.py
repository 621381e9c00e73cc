"""`fashionflow compare`: two results beside each other, and exit code 1 if the second is worse beyond noise."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import assert_refused, run

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.evaluate.compare import Comparison, compare, read, text

MACHINE = {"device": "cpu", "cpu": "one of them", "cores": 4, "threads": 2, "gpu": None, "dtype": "float32"}


def evaluation(**metrics: Any) -> dict[str, Any]:
    spread = {name: [value * 0.9, value * 1.1] for name, value in metrics.items() if value}
    record = {"seed": 0, "clips": {"real": [1]}, "weights": {"i3d": {"sha256": "a"}}}
    counts = {name: {"real": 3, "fake": 3} for name in metrics}
    return {
        "metrics": metrics,
        "intervals": spread,
        "protocol": record,
        "samples": {"real": 3, **counts},
        "failed": [],
    }


def timing(median: float, spread: float = 0.1) -> dict[str, Any]:
    return {
        "seconds": [median] * 3,
        "lower_quartile_s": median - spread,
        "median_s": median,
        "upper_quartile_s": median + spread,
        "peak_memory_bytes": 1 << 30,
        "flop": None,
    }


def bench(suite: str = "step", /, **medians: float | dict[str, Any]) -> dict[str, Any]:
    rows = {name: row if isinstance(row, dict) else timing(row) for name, row in medians.items()}
    return {
        "schema": 1,
        "suite": suite,
        "model": {"name": "mini-latent", "parameters": 5},
        "input": {"frames": 8},
        "results": rows,
        "hardware": MACHINE | {"commit": "abc", "date": "today"},
    }


def many(*suites: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 2, "suites": list(suites), "hardware": MACHINE}


def verdicts(found: Comparison) -> dict[str, str]:
    return {row.name: row.verdict for row in found.rows if row.verdict}


def test_evaluations(tmp_path: Path):
    a, b = evaluation(fvd=100.0, psnr=30.0, **{"is": 2.0}), evaluation(fvd=50.0, psnr=None, **{"is": 2.1})
    for name, value in {"a": a, "b": b, "c": evaluation(fvd=50.0) | {"protocol": {"seed": 1}}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    done = run("compare", "a.json", "b.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["metrics.fvd"]["ratio"] == 0.5 and rows["metrics.fvd"]["verdict"] == "better"
    assert rows["metrics.is"]["verdict"] == "within the intervals"
    assert found["conditions"] == [] and found["lacking"] == ["metrics.psnr is only in the first"]
    assert found["regressions"] == found["unlike"] == []
    worse = run("compare", "b.json", "a.json", cwd=tmp_path)
    assert worse.returncode == 1 and "FVD ↓" in worse.stdout and "worse" in worse.stdout
    errors = [line for line in worse.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "a.json: worse than b.json beyond noise in metrics.fvd" in errors[0]
    other = run("compare", "c.json", "a.json", cwd=tmp_path)
    assert other.returncode == 0 and "protocol.seed: 1 and 0" in other.stdout
    assert "No verdicts, since these differ: protocol.seed" in other.stdout


def test_evaluations_of_other_sets_are_not_judged():
    a, b = evaluation(fvd=50.0, garment_drift=5.0), evaluation(fvd=100.0, garment_drift=9.0)
    a["samples"]["garment_drift"] = 3
    b["samples"] = {"real": 6, "fvd": {"real": 6, "fake": 6}, "garment_drift": 6}
    found = compare(a, b)
    assert verdicts(found) == {"metrics.fvd": "different number of samples", "metrics.garment_drift": "worse"}
    assert found.regressions == ["metrics.garment_drift"]
    b["protocol"]["weights"]["i3d"]["sha256"] = "b"
    assert compare(a, b).regressions == [] and compare(a, b).unlike == ["protocol.weights.i3d"]
    del b["protocol"]["weights"]["i3d"]  # measured without that network: what needs none is comparable
    assert compare(a, b).regressions == ["metrics.garment_drift"]


def test_ablations(tmp_path: Path):
    before = {"Local only": evaluation(fvd=50.0), "Global only": evaluation(fvd=3.0)}
    found = compare(before, before | {"Local only": evaluation(fvd=100.0)})
    assert verdicts(found) == {"Local only: metrics.fvd": "worse", "Global only: metrics.fvd": "equal"}
    assert found.regressions == ["Local only: metrics.fvd"]
    for name, value in {"evaluation": evaluation(fvd=7.0), "ablation": before}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text(json.dumps(value))
        assert read(tmp_path / name) == value  # a report's folder


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "verdict"),
    [
        (timing(1.0), timing(2.0), 1.05, "slower"),
        (timing(2.0), timing(1.0), 1.05, "faster"),
        (timing(1.0), timing(1.0), 1.05, "within noise"),
        (timing(1.0, 0.3), timing(1.5, 0.3), 1.05, "within noise"),  # quartile ranges overlap
        (timing(1.0, 0.01), timing(1.04, 0.01), 1.05, "within noise"),
        (timing(1.0, 0.01), timing(1.04, 0.01), 1.0, "slower"),
        (timing(1.0), timing(2.0), 2.5, "within noise"),
        ({"median_s": 1.0}, {"median_s": 2.0}, 1.05, "slower"),
    ],
    ids=["twice", "half", "same", "overlap", "4-percent", "4-percent-asked", "tolerated", "medians-alone"],
)
def test_when_a_time_is_a_regression(before: dict, after: dict, tolerance: float, verdict: str):
    found = compare(bench(ours=before), bench(ours=after), tolerance)
    assert verdicts(found) == {"results.ours.median_s": verdict}
    assert found.regressions == (["results.ours.median_s"] if verdict == "slower" else [])


def test_benchmarks(tmp_path: Path):
    slow = bench(ours=2.0, literal=3.0, untimed={"flop": 7})
    files = {
        "a": bench(ours=1.0, literal=3.0, untimed={"flop": 7}),
        "b": slow,
        "elsewhere": slow | {"hardware": MACHINE | {"cpu": "another one"}},
        "many": many(bench("vae", ours=1.0), slow, bench("clip", ours=1.0)),
        "before": many(bench("vae", ours=1.0), bench(ours=1.0)),
    }
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    done = run("compare", "a.json", "b.json", cwd=tmp_path)
    assert done.returncode == 1 and "in results.ours.median_s" in done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("results.ours.median_s"))
    assert line.split()[-2:] == ["2.000", "slower"]
    assert "1,024 MiB" in done.stdout and "today" not in done.stdout
    assert run("compare", "b.json", "a.json", cwd=tmp_path).returncode == 0
    assert run("compare", "a.json", "b.json", "--tolerance", "2.1", cwd=tmp_path).returncode == 0
    other = run("compare", "a.json", "elsewhere.json", cwd=tmp_path)
    assert other.returncode == 0 and "No verdicts, since these differ: hardware.cpu" in other.stdout
    assert "hardware.cpu: one of them and another one" in other.stdout
    found = json.loads(run("compare", "before.json", "many.json", "--json", cwd=tmp_path).stdout)
    assert found["regressions"] == ["step: results.ours.median_s"] and "clip is only in the second" in found["lacking"]
    # One suite of many against that suite alone.
    assert compare(files["a"], files["many"]).regressions == ["results.ours.median_s"]
    assert_refused(run("compare", "a.json", "b.json", "--tolerance", "0.5", cwd=tmp_path), 2, "--tolerance")


def test_other_shapes_and_models_are_not_judged():
    a = bench(ours=1.0)
    for changed in ({"input": {"frames": 70}}, {"model": {"name": "published", "parameters": 7}}):
        found = compare(a, bench(ours=2.0) | changed)
        assert found.unlike and found.regressions == [] and verdicts(found) == {}
        assert "No verdicts" in text(found, markdown=True)


def test_what_cannot_be_compared(tmp_path: Path):
    for name, value in {"a": bench(ours=1.0), "v": bench("vae", ours=1.0), "e": evaluation(fvd=1.0)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    for other, words in {"v": "cannot be compared", "e": "cannot compare", "list": "not a result"}.items():
        assert_refused(run("compare", "a.json", f"{other}.json", cwd=tmp_path), 1, f"{other}.json", words)
    for other, words in {"text": "invalid JSON", "binary": "invalid JSON", "nowhere": "no such file"}.items():
        with pytest.raises(FashionFlowError, match=words):
            read(tmp_path / f"{other}.json")
    for a, b in (({}, {"a": "b"}), (many(), many())):
        with pytest.raises(FashionFlowError):
            compare(a, b)
