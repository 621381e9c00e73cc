"""What lies over frames: disclosure, caption, logo, end card; fonts by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from catalogues import conventions, last, photo, quick
from command import assert_refused, run
from numpy.typing import NDArray
from PIL import Image, ImageFont
from places import ROOT

from fashionflow_core import video
from fashionflow_core.catalogue import list_files
from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.video import captions, finishing, fonts
from fashionflow_core.video.finishing import FinishOptions, Footage
from fashionflow_core.video.overlays import EndCard, LogoOptions, Overlay

PHOTO = ROOT / "examples" / "dress.jpg"
GREY = np.full((200, 160, 3), 200, np.uint8)


def _changed(frame: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is not grey any more."""
    rows, columns = np.nonzero((frame != 200).any(axis=2))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.fixture
def logo(tmp_path: Path) -> Path:
    """A red square in a transparent frame of green."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[8:32, 8:32] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "logo.png")
    return tmp_path / "logo.png"


def test_each_lies_in_its_place_and_the_frame_stays(logo: Path):
    top, bottom, left, right = _changed(Overlay(200, 160, mark="AI-generated").apply(GREY))
    assert top > 170 and left < 10 and right < 100
    top, bottom, left, right = _changed(Overlay(200, 160, caption="Linen dress, 29 euros").apply(GREY))
    assert top > 150 and bottom < 200 and abs((left + right) / 2 - 79.5) < 3
    for place in ("top-left", "top-right", "bottom-left", "bottom-right"):
        top, bottom, left, right = _changed(Overlay(200, 160, logo=LogoOptions(str(logo), place)).apply(GREY))
        assert (top < 60) == place.startswith("top") and (left < 60) == place.endswith("left")
    both = Overlay(200, 160, mark="AI", caption="Dress", logo=LogoOptions(str(logo), "top-left")).apply(GREY)
    assert (both[:40, 100:] != 200).any() and (both[:40, :60] != 200).any(), "mark and logo have corners of their own"
    caption = Overlay(200, 160, caption="Dress").apply(GREY)
    low = Overlay(200, 160, caption="Dress", logo=LogoOptions(str(logo), "bottom-left")).apply(GREY)
    where = np.nonzero((low != caption).any(axis=2))[0]
    assert len(where) and where.max() < _changed(caption)[0], "a logo at the foot lies above the caption"
    assert (GREY == 200).all() and Overlay(200, 160).apply(GREY) is GREY


def test_logos_keep_transparency_and_opacity(logo: Path):
    whole = Overlay(200, 160, logo=LogoOptions(str(logo))).apply(GREY)
    half = Overlay(200, 160, logo=LogoOptions(str(logo), opacity=0.5)).apply(GREY)
    assert whole[..., 1].max() <= 201, "what is transparent does not shine through at the edges"
    red = (whole == (255, 0, 0)).all(axis=2)
    assert red.sum() > 20 and np.abs(half[red].astype(int) - (228, 100, 100)).max() <= 2


def test_long_captions_are_wrapped_and_then_smaller():
    one, many = (Overlay(200, 160, caption=text).apply(GREY) for text in ("Short", "A rather long caption " * 4))
    assert _changed(many)[0] < _changed(one)[0] and _changed(many)[2] >= 8
    with pytest.raises(UsageError, match=r"caption: .* is too long"):
        Overlay(200, 160, caption="word " * 100)
    for mark in ("word " * 60, "W" * 100):
        with pytest.raises(UsageError, match=r"visible_mark: .* is too long") as raised:
            Overlay(200, 160, mark=mark)
        assert len(str(raised.value)) < 150
    assert Overlay(200, 160, mark="  ", caption=" \n").apply(GREY) is GREY


def test_end_cards_follow_and_count_for_the_length(tmp_path: Path):
    Image.new("RGB", (300, 100), (0, 90, 200)).save(tmp_path / "card.png")
    options = FinishOptions(("tiktok",), end_card=EndCard(str(tmp_path / "card.png"), 1.5))
    (finisher,) = options.finishers(Footage(25, 25, 400, 400, loop=True))
    assert len(finisher.order) == 50 and finisher.count == 50 + 38, "two rounds of 1 s, and 1.5 s of card: at least 3 s"


def test_an_end_card_is_shown_whole(tmp_path: Path):
    Image.new("RGB", (300, 100), (0, 90, 200)).save(tmp_path / "card.png")
    options = FinishOptions(end_card=EndCard(str(tmp_path / "card.png"), 0.4))
    (finisher,) = options.finishers(Footage(4, 10, 200, 160))
    frames = [GREY] * 4
    info = finishing.write(finisher, lambda: iter(frames), tmp_path / "v.mp4", {}, EncodeOptions())
    made = video.read(tmp_path / "v.mp4")
    assert info.frames == len(made) == 8
    assert np.abs(made[3].astype(int) - 200).max() < 6 and np.abs(made[4].astype(int) - (0, 90, 200)).max() < 8
    assert video.read_metadata(tmp_path / "v.mp4")["fashionflow_end_card"] == "card.png"


def test_fonts_by_name(tmp_path: Path):
    built_in = fonts.load_font("", "AI-generated", 20)
    assert built_in.getname()[0]
    known = fonts.installed()
    if not known:
        pytest.skip("no fonts are installed")
    family, path = next((family, path) for family, path in known.items() if path.suffix == ".ttf")
    assert fonts.load_font(family.upper(), "", 12).getname() == ImageFont.truetype(str(path), 12).getname()
    assert fonts.load_font(str(path), "", 12).path == str(path)
    with pytest.raises(UsageError, match="font: 'Nosuch Sans Xyz' is not installed"):
        fonts.load_font("Nosuch Sans Xyz", "a", 12)
    with pytest.raises(UsageError, match="no such file"):
        fonts.load_font(str(tmp_path / "x.ttf"), "a", 12)
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    with pytest.raises(FashionFlowError, match="not a font"):
        fonts.load_font(str(tmp_path / "bad.ttf"), "a", 12)
    with pytest.raises(FashionFlowError, match="no installed font has"):
        fonts.load_font("", "\U000f1234", 12)


def test_captions_are_filled_in():
    values = {"name": "1001", "price": "29"}
    assert captions.columns_of("{Price} for {sale-price} {price}") == ("price", "sale_price")
    assert captions.filled("{price} euros: {NAME}", values) == "29 euros: 1001"
    with pytest.raises(UsageError, match=r"caption: this photo has no \{name.__class__\}"):
        captions.filled("{name.__class__}", values)


def test_columns_of_lists(tmp_path: Path):
    rows = b"photo,price,seed\na.jpg,29,4\n"
    assert list(list_files.read_list(rows, "l.csv", ".csv", ("price",))) == [("a.jpg", {"price": "29", "seed": "4"})]
    with pytest.raises(UsageError, match="unknown column 'price'"):
        list(list_files.read_list(rows, "l.csv", ".csv"))
    with pytest.raises(UsageError, match="column 'price' occurs twice"):
        list(list_files.read_list(b"photo,price,Price\na.jpg,29,30\n", "l.csv", ".csv", ("price",)))


@pytest.mark.slow
def test_captions_of_a_catalogue_remake_what_they_change(tmp_path: Path):
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.jpg", 1, (400, 300))
    model = conventions(tmp_path / "model", height=192, width=256)
    listed = tmp_path / "list.csv"
    listed.write_text("photo,price\na.jpg,29\nb.jpg,\n")
    arguments = ("list.csv", "-o", "out", "-m", model, "--caption", "{name}: {price} euros", "-q")
    done = quick(*arguments, cwd=tmp_path)
    assert done.returncode == 3 and "this photo has no {price}" in last(tmp_path / "out")["b"]["message"]
    first = last(tmp_path / "out")["a"]
    assert video.read_metadata(tmp_path / "out" / "a.mp4")["fashionflow_caption"] == "a: 29 euros"
    listed.write_text("photo,price\na.jpg,29\nb.jpg,30\n")
    assert quick(*arguments, cwd=tmp_path).returncode == 0
    assert last(tmp_path / "out")["a"] == first, "a finished one stays"
    listed.write_text("photo,price\na.jpg,25\nb.jpg,30\n")
    assert quick(*arguments, cwd=tmp_path).returncode == 0
    assert last(tmp_path / "out")["a"]["settings_hash"] != first["settings_hash"]


def test_a_long_caption_of_a_catalogue_fails_before_it_is_generated(tmp_path: Path):
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.jpg", 1, (400, 300))
    model = conventions(tmp_path / "model", height=192, width=256)
    (tmp_path / "list.csv").write_text(f"photo,text\na.jpg,{'word ' * 100}\nb.jpg,short\n")
    done = quick("list.csv", "-o", "out", "-m", model, "--caption", "{text}", "--for", "gif", "-q", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    found = last(tmp_path / "out")
    assert "too long" in found["a"]["message"] and found["a"]["stage"] == "photo"
    assert found["b"]["output"] == "b.gif", "the suffix follows the only target"


def test_hashes_of_finishing_follow_the_content_of_files(tmp_path: Path, logo: Path):
    one = FinishOptions(logo=LogoOptions(str(logo)))
    shutil.copy(logo, tmp_path / "other.png")
    assert FinishOptions(logo=LogoOptions(str(tmp_path / "other.png"))).hashed() == one.hashed()
    Image.new("RGB", (5, 5)).save(logo)
    assert FinishOptions(logo=LogoOptions(str(tmp_path / "other.png"))).hashed() != one.hashed()
    assert not FinishOptions().hashed()


@pytest.mark.slow
def test_the_command_draws_all_and_can_be_repeated(tmp_path: Path, logo: Path):
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    Image.new("RGB", (300, 100), (0, 90, 200)).save(tmp_path / "card.png")
    arguments = (
        *("--size", "320x256", "--frames", "4", "--steps", "2", "--visible-mark", "AI-generated", "--caption"),
        *("Dress {name}", "--logo", "logo.png", "--logo-opacity", "0.8", "--end-card", "card.png", "--poster"),
    )
    assert run("generate", "dress.jpg", "-o", "v.mp4", *arguments, cwd=tmp_path).returncode == 0
    first = (tmp_path / "v.mp4").read_bytes()
    import shlex

    again = json.loads(run("inspect", "v.mp4", "--json", cwd=tmp_path).stdout)["again"]
    words = shlex.split(again.replace("PHOTO", "dress.jpg"))[1:]
    done = run(*words, "--overwrite", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "v.mp4").read_bytes() == first, done.stderr


def test_refusals(tmp_path: Path, logo: Path):
    shutil.copy(PHOTO, tmp_path / "dress.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for code, arguments, words in (
        (1, ("--logo", "missing.png"), ("missing.png", "no such file")),
        (1, ("--logo", "text.png"), ("text.png", "cannot be read")),
        (1, ("--end-card", "text.png"), ("text.png", "cannot be read")),
        (2, ("--logo", "logo.png", "--logo-opacity", "2"), ("--logo-opacity", "2")),
        (2, ("--logo", "logo.png", "--logo-place", "middle"), ("--logo-place", "middle")),
        (2, ("--end-card", "logo.png", "--end-card-seconds", "0"), ("--end-card-seconds", "0")),
        (2, ("--logo-place", "top-left"), ("--logo-place", "--logo")),
        (2, ("--end-card-seconds", "3"), ("--end-card-seconds", "--end-card")),
        (2, ("--font", "Sans"), ("--font", "--caption or --visible-mark")),
        (2, ("--caption", "{price}"), ("--caption", "{price}")),
        (2, ("--caption", "word " * 200), ("--caption", "too long")),
        (2, ("--visible-mark", "W" * 300), ("--visible-mark", "too long")),
        (2, ("--caption", "\udcff"), ("--caption", "not a text")),
        (2, ("--visible-mark", "AI", "--font", "Nosuch Sans Xyz"), ("--font", "Nosuch")),
    ):
        assert_refused(run("generate", "dress.jpg", *arguments, cwd=tmp_path), code, *words)
    assert not (tmp_path / "dress.mp4").exists()
