"""Frames written as PNG are exact, and nothing else is left behind."""

from pathlib import Path

import numpy as np
import pytest
from photos import blocks

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.fitting import write_png
from fashionflow_core.images.loading import load_photo


def test_png_round_trip_is_exact_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "poster.png"
    path.write_text("old")
    write_png(path, blocks())
    assert [p.name for p in tmp_path.iterdir()] == ["poster.png"]
    np.testing.assert_array_equal(load_photo(path), blocks())


def test_png_refuses_other_names_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(FashionFlowError, match=r"poster\.jpg: not a PNG"):
        write_png(tmp_path / "poster.jpg", blocks())
    with pytest.raises(FashionFlowError, match="does not exist"):
        write_png(tmp_path / "no" / "poster.png", blocks())
    assert list(tmp_path.iterdir()) == []
