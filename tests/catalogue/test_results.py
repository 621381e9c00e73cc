"""Tables of a catalogue: what a shop's own programs read."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from catalogues import conventions, last, lines, plain, quick, shop
from command import run

from fashionflow_core.catalogue import results
from fashionflow_core.catalogue.results import COLUMNS, CSV, JSON
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils import files


def _tables(out: Path) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    with (out / CSV).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((out / JSON).read_text(encoding="utf-8"))


def test_a_run_leaves_both_tables(tmp_path: Path):
    shop(tmp_path / "photos", 2)
    (tmp_path / "photos" / "bad, photo.jpg").write_bytes(b"no photo")
    model = conventions(tmp_path / "model")
    assert quick("photos", "-o", "out", "-m", model, "--gate", "-q", cwd=tmp_path).returncode == 3
    table, listed = _tables(tmp_path / "out")
    assert [row["item"] for row in table] == [row["item"] for row in listed]
    by_name = {row["item"]: row for row in table}
    assert set(by_name) == {"000", "001", "bad, photo"} and tuple(table[0]) == tuple(listed[0]) == COLUMNS
    row, record = by_name["001"], last(tmp_path / "out")["001"]
    data = (tmp_path / "out" / row["video"]).read_bytes()
    assert row["video_sha256"] == hashlib.sha256(data).hexdigest() and row["bytes"] == str(len(data))
    assert row["photo_sha256"] == hashlib.sha256(Path(tmp_path / row["photo"]).read_bytes()).hexdigest()
    assert (row["frames"], float(row["seconds"])) == ("4", pytest.approx(4 / float(row["fps"]), abs=1e-3))
    assert (row["seed"], row["settings_hash"]) == (str(record["seed"]), record["settings_hash"])
    assert float(row["motion"]) == record["scores"]["motion"] and (tmp_path / "out" / row["poster"]).is_file()
    bad = by_name["bad, photo"]
    assert (bad["status"], bad["video"], bad["frames"]) == ("failed", "", "") and "bad, photo.jpg" in bad["message"]
    assert next(row for row in listed if row["item"] == "bad, photo")["video"] is None
    # They are rebuilt with the page, and what is there stays until the new one is whole.
    (tmp_path / "out" / CSV).unlink()
    assert run("gallery", "out", cwd=tmp_path).returncode == 0
    assert _tables(tmp_path / "out")[0] == table


def test_an_item_that_was_made_again_has_one_row(tmp_path: Path):
    plain(tmp_path / "photos" / "a.jpg", (10, 20, 30))
    model = conventions(tmp_path / "model")
    for seed in ("1", "2"):
        assert quick("photos", "-o", "out", "-m", model, "--seed", seed, "-q", cwd=tmp_path).returncode == 0
    (row,), _ = _tables(tmp_path / "out")
    assert row["seed"] == str(lines(tmp_path / "out")[-1]["seed"]) == "2"


def test_odd_records(tmp_path: Path):
    records = [
        {"item": "a\nb", "status": "done", "source": "x\udc80.jpg", "frames": 10**400, "fps": 1.0, "flags": ["x", "y"]},
        {
            "item": "half \ud800",
            "status": "lost",
            "caption": "=1+1",
            "scores": {"flicker": -0.5},
            "frames": 5,
            "fps": 0,
        },
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    results.write(tmp_path)
    text = (tmp_path / CSV).read_text(encoding="utf-8", errors="surrogateescape")
    first, second = csv.DictReader(text.splitlines(keepends=True))
    assert (first["item"], first["photo"], first["seconds"], first["flags"]) == ("a\nb", "x\udc80.jpg", "", "x; y")
    assert (second["item"], second["caption"], second["flicker"]) == ("half \ufffd", "'=1+1", "-0.5")
    assert len(json.loads((tmp_path / JSON).read_text())) == 2
    (tmp_path / "manifest.jsonl").write_text("")
    results.write(tmp_path)
    assert json.loads((tmp_path / JSON).read_text()) == []
    with pytest.raises(FashionFlowError, match="contains no manifest"):
        results.write(tmp_path / "missing")


def test_a_full_disk_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "manifest.jsonl").write_text('{"item": "a", "status": "done"}\n')
    results.write(tmp_path)
    before = (tmp_path / CSV).read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    (tmp_path / "manifest.jsonl").write_text('{"item": "b", "status": "done"}\n')
    with pytest.raises(FashionFlowError, match="no space left"):
        results.write(tmp_path)
    assert (tmp_path / CSV).read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
