"""Report pages of evaluate and ablation in a browser: everything is in one folder, and nothing is asked of anybody."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import devtools
import numpy as np
import pytest
from clip_sets import write_clip
from PIL import Image

from fashionflow_core.evaluate import report_folder
from fashionflow_core.evaluate.protocol import EvaluateOptions, Protocol
from fashionflow_core.evaluate.run import evaluate
from fashionflow_core.synthetic.clips import render_clip

pytestmark = pytest.mark.filterwarnings("ignore::fashionflow_core.errors.FashionFlowWarning")
EVIL = '<img src=http://127.0.0.1:9/x onerror=console.error(1)> & "quote"'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Evaluations of clips in two strengths of fading, of one set."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        frames = render_clip(seed, 5, 96, 72, supersample=1).frames
        name = f"{EVIL} 0.mp4".replace("/", "_") if seed == 0 else f"clip {seed}.mp4"
        write_clip(folder / "real" / name, frames)
        for method, share in (("weak", 0.1), ("strong", 0.4)):
            write_clip(folder / method / name, ((1 - share) * frames + share * 210).astype(np.uint8))
    (folder / "weak" / "broken.mp4").write_text("no video")
    options = EvaluateOptions(Protocol(metrics=("psnr", "silhouette", "drift", "skin"), bootstrap=20), folder)
    return {method: evaluate(folder / "real", folder / method, options) for method in ("weak", "strong")}


def shown(page: devtools.Page, folder: Path, width: int = 1200) -> str:
    """Open the report of a folder that was moved, and check what every report must do; its text."""
    moved = Path(shutil.move(folder, folder.parent / "moved & <renamed>"))
    page.requests.clear()
    page.complaints.clear()
    page.open((moved / "report.html").as_uri(), width=width)
    count = page.ask("document.images.length")
    assert count >= 2
    page.until("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    assert all(address.startswith(("file:", "data:")) for address in page.requests) and page.complaints == []
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")  # wide tables scroll by themselves
    assert page.ask("document.querySelectorAll('script, iframe, object').length") == 0
    return page.ask("document.body.innerText")


def test_of_an_evaluation(results: dict[str, Any], page: devtools.Page, tmp_path: Path):
    report_folder.write(results["weak"], tmp_path / "report")
    text = shown(page, tmp_path / "report")
    value = results["weak"]["metrics"]["psnr"]
    low, high = results["weak"]["intervals"]["psnr"]
    assert re.search(rf"PSNR, dB ↑.*?\s{value:.2f}\s+{low:.2f} \.\. {high:.2f}", text, re.S)
    assert "broken.mp4: not a video" in text
    page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    text = page.ask("document.body.innerText")
    assert "onerror" in text and "leading frames that both clips have" in text
    assert page.ask("document.querySelectorAll('tbody tr').length") > 20


def test_of_an_ablation_on_a_telephone(results: dict[str, Any], page: devtools.Page, tmp_path: Path):
    weak, strong = results["weak"], results["strong"]
    published = strong | {"metrics": strong["metrics"] | {"fvd": 123.456}}
    measured = {"Global only": [published, strong], "Local only": [strong], "Global and local": [weak]}
    report_folder.write_ablation(measured, tmp_path / "report")
    folder = tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == {
        *("ablation.json", "ablation.md", "report.html", "methods.png", "garment-drift.png", "clips.png"),
    }
    record = json.loads((folder / "ablation.json").read_text())
    assert list(record) == ["Global only", "Global only (2)", "Local only", "Global and local"]
    with Image.open(folder / "clips.png") as picture:
        assert picture.height > 4 * 4 * 140  # four clips: the real one and three methods
    text = shown(page, folder, width=390)
    assert "1659.546" in text and "123.456" in text and "the paper's" in text
    assert "Global and local − Global only" in text and "2 runs" in text.replace("1 or 2 runs", "2 runs")


def test_markdown_names_the_pictures_that_are_there(results: dict[str, Any], tmp_path: Path):
    report_folder.write(results["strong"], tmp_path / "report")
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (tmp_path / "report" / "evaluation.md").read_text())
    assert sorted(names) == sorted(path.name for path in (tmp_path / "report").glob("*.png"))
    assert {"clips.png", "clip-scores.png", "garment-drift.png"} == set(names)
