"""The page of a catalogue, in Chromium as a shop opens it, and `fashionflow gallery`, which rebuilds it."""

import json
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import devtools
import numpy as np
import pytest
from command import assert_refused, run
from PIL import Image

from fashionflow_core import video
from fashionflow_core.catalogue import gallery
from fashionflow_core.errors import FashionFlowError


def record(number: int, **more: Any) -> dict[str, Any]:
    name = f"women/dress-{number}"
    return {
        "item": name,
        "source": f"photos/{name}.jpg",
        "status": "done",
        "attempt": 1,
        "seed": number % 3,
        "model": "mini-latent" if number % 2 else "published",
        "model_revision": "abc",
        "output": f"{name}.mp4",
        "poster": f"{name}-poster.jpg",
        "frames": 12,
        "fps": 25.0,
        "height": 80,
        "width": 64,
        "codec": "h264",
        "scores": {"garment_drift": float(number), "motion": 1.5},
        "flags": ["colour"] if number % 5 == 0 else [],
        "seconds": {"denoise": 1.2},
        **more,
    }


def catalogue(out: Path, count: int, *extra: dict[str, Any]) -> Path:
    """An output folder of so many videos, all the same file, and whatever else."""
    (out / "women").mkdir(parents=True)
    frames = np.repeat(np.arange(12, dtype=np.uint8)[:, None, None, None] * 20, 3, axis=3)
    video.write(np.broadcast_to(frames, (12, 80, 64, 3)).copy(), out / "first.mp4", 25, 12)
    Image.new("RGB", (64, 80), "teal").save(out / "first.jpg")
    records = [record(number) for number in range(count)] + list(extra)
    for one in records:
        if one["status"] == "done":
            (out / one["output"]).hardlink_to(out / "first.mp4")
            (out / one["poster"]).hardlink_to(out / "first.jpg")
    (out / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return out


def test_reasons_are_in_words_with_the_frame_that_shows_them(tmp_path: Path) -> None:
    scores = {"flash": 30.0, "flash_at": 5.0, "garment_drift": 12.0}
    out = catalogue(tmp_path / "out", 0, record(6, scores=scores, flags=["flash", "colour", "melted"]))
    (page,) = gallery.build(out)
    (flash, colour, other) = content(page)["videos"][0]["reasons"]
    # 5.5 frames of 25 a second.
    assert flash == {"flag": "flash", "words": "the light flashes", "frame": 5, "seconds": 0.22}
    assert colour["words"] == "the garment's colour differs from the photo's" and colour["frame"] is None
    assert other["words"] == "melted", "a flag of another version"


def content(page: Path) -> dict[str, Any]:
    """What a page shows."""
    found = re.search(r'<script type="application/json" id="folder">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_what_was_noticed_about_a_photo_is_on_its_card_and_in_a_group_of_its_own(tmp_path: Path) -> None:
    """Fine: nothing was noticed."""
    line = "photos/women/dress-7.jpg: no figure found in this photo"
    out = catalogue(tmp_path / "out", 5, record(6, warnings=["the camera moves"]), record(7, warnings=[line]))
    (page,) = gallery.build(out)
    found = content(page)
    assert found["about"].startswith("7 videos, 1 of them flagged, 2 to check · ")
    assert [len(video["flags"]) for video in found["videos"]] == [1, 0, 0, 0, 0, 0, 0]
    warnings = {video["photo_name"]: video["warnings"] for video in found["videos"] if video["to_check"]}
    assert warnings == {"women/dress-6": ["the camera moves"], "women/dress-7": ["no figure found in this photo"]}


def failed(number: int, message: str = "photos/x.jpg: is damaged") -> dict[str, Any]:
    name = f"zoe/bad-{number}"
    return {
        "item": name,
        "source": f"photos/{name}.jpg",
        "status": "failed",
        "seed": 0,
        "stage": "photo",
        "error_class": "PhotoError",
        "message": message,
        "hint": "copy the photo again",
    }


EVIL = '"><script>console.error("evil")</script><img src=http://127.0.0.1:9/x onerror=console.error(1)>&amp;'


SCROLL = """(async () => {
  scrollTo(0, 0);
  for (let at = 0; at < 60; at++) {
    scrollBy(0, 700);
    await new Promise(requestAnimationFrame);
  }
})()"""


def opened(page: devtools.Page, out: Path) -> devtools.Page:
    (first, *_) = gallery.build(out)
    page.requests.clear()
    page.complaints.clear()
    page.open(first.as_uri())
    return page


def visible(page: devtools.Page) -> int:
    return page.ask("document.querySelectorAll('.card:not([hidden])').length")


def enter(page: devtools.Page, name: str, value: str) -> None:
    """Put a value into a field."""
    field = f"document.getElementById({name!r})"
    page.ask(f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('input'))")


CLOSED = "!document.getElementById('look').open && !document.getElementById('video').hasAttribute('src')"


def show(page: devtools.Page, name: str) -> None:
    """Click on the video of this name."""
    page.ask(f"document.querySelector({json.dumps(f'[aria-label={json.dumps(name)}]')}).click()")


def test_in_chromium(page: devtools.Page, tmp_path: Path) -> None:
    """Videos play on hover and on focus, filters filter, keys work, nothing complains, nothing leaves the folder."""
    odd = record(98, item="odd #1%?&", output="odd #1%?&.mp4", poster="odd #1%?&-poster.jpg", caption=EVIL)
    out = catalogue(tmp_path / "Spring & <Summer>", 12, failed(1), failed(2, EVIL), odd)
    opened(page, out)
    assert page.ask("document.title") == "Spring & <Summer> · FashionFlow"
    assert visible(page) == 15
    page.until("[...document.querySelectorAll('.shot img')].slice(0, 4).every(image => image.naturalWidth === 64)")

    # A mouse over a card, and off it again
    page.move_to(".card:nth-of-type(4) .shot")
    page.until("document.querySelector('.shot:hover video')?.currentTime > 0.1")
    assert page.ask("document.querySelectorAll('main video').length") == 1
    page.move_to("h1")
    page.until("document.querySelectorAll('main video').length === 0")

    # Keys: from card to card, the large view, and back to where it was opened
    page.ask("document.querySelector('.card .shot').focus()")
    page.until("document.activeElement.querySelector('video')?.currentTime > 0")
    page.press("ArrowRight")
    page.until("document.activeElement.closest('.card') === document.querySelectorAll('.card')[1]")
    assert page.ask("document.querySelectorAll('main video').length") == 1
    page.press("ArrowDown")
    page.until("[...document.querySelectorAll('.card')].indexOf(document.activeElement.closest('.card')) > 3")
    page.press("ArrowUp")
    page.press("ArrowLeft")
    page.press("Tab")
    assert page.ask("document.activeElement.matches('.shot')")
    page.press("Enter")
    page.until("document.querySelector('dialog[open] video')?.currentTime > 0")
    assert "seed" in page.ask("document.querySelector('dialog').textContent")
    before = page.ask("document.querySelector('dialog h2').textContent")
    page.press("ArrowRight")
    page.until(f"document.querySelector('dialog h2').textContent !== {json.dumps(before)}")
    page.picture(tmp_path / "large.png")
    page.press("Escape")
    page.until(f"{CLOSED} && document.activeElement.matches('.shot')")

    # Filters
    count = "document.getElementById('count').textContent"
    for group, number in (("flagged", 3), ("failed", 2), ("fine", 10), ("", 15)):
        page.ask(f"document.querySelector('button[data-show=\"{group}\"]').click()")
        assert visible(page) == number
    assert page.ask(count) == "15 of 15 shown"
    labels = "[...document.querySelectorAll('.filters button:not([hidden])')].map(b => b.textContent)"
    assert page.ask(labels) == ["All", "Fine 10", "Flagged 3", "Failed 2"]
    page.press("/")
    page.type("dress-1")
    assert visible(page) == 3  # dress-1, dress-10, dress-11
    assert page.ask(count) == "3 of 15 shown"
    page.press("Escape")
    assert visible(page) == 15
    enter(page, "model", "mini-latent")
    assert visible(page) == 6
    enter(page, "seed", "1")
    assert visible(page) == 2  # 1 and 7
    enter(page, "find", "nothing")
    assert visible(page) == 0 and not page.ask("document.getElementById('none').hidden")
    for name in ("find", "model", "seed"):
        enter(page, name, "")
    page.ask("at('sort').value = 'drift'; at('sort').dispatchEvent(new Event('change'))")
    assert "98" in page.ask("document.querySelector('.card .scores').textContent")
    page.ask("at('sort').value = ''; at('sort').dispatchEvent(new Event('change'))")
    assert "98" in page.ask("document.querySelector('.card .scores').textContent")  # 'odd' is before 'women'
    assert "1 · " in page.ask("document.querySelectorAll('.card .scores')[2].textContent")

    # Nothing can be changed here, as there is no server
    hidden = "document.querySelectorAll('#make[hidden], #downloads[hidden], #verdicts[hidden], #delete[hidden]').length"
    assert page.ask(hidden) == 4

    # On a telephone the large view begins with its video
    page.open((out / "index.html").as_uri(), width=390, height=844)
    page.ask("document.querySelector('.shot').click()")
    page.until("document.querySelector('dialog[open] video')?.getBoundingClientRect().top >= 0")
    assert page.ask("document.activeElement.id") == "look-title"
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")

    assert page.complaints == []
    inside = out.as_uri() + "/"
    assert [url for url in page.requests if not url.startswith((inside, "data:"))] == []
    assert any(url.endswith("/odd%20%231%25%3F%26-poster.jpg") for url in page.requests)


def test_photos_beside_videos(page: devtools.Page, tmp_path: Path) -> None:
    """With a slider between both; of failed photos those are shown that open, and a broken one leaves its text."""
    photos = tmp_path / "my photos #1"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 80), "teal").save(photos / name)
    (photos / "broken.jpg").write_bytes(b"no photo")
    (photos / "raw.heic").write_bytes(b"no photo")
    out = catalogue(
        tmp_path / "out",
        1,
        record(1, source=str(photos / "a.jpg")),
        record(2, source=str(photos / "broken.jpg")),
        *(failed(n) | {"source": str(photos / name)} for n, name in enumerate(("b.jpg", "broken.jpg", "raw.heic"))),
    )
    opened(page, out)
    pictures = "document.querySelectorAll('.failed .shot:not([hidden]) img')"
    page.until(f"{pictures}.length === 1 && {pictures}[0].naturalWidth === 64")
    assert page.ask("document.querySelectorAll('.failed .text').length") == 3
    # One video has a photo, another one's is gone, and a third one's does not open.
    show(page, "women/dress-1")
    page.until("document.getElementById('photo').naturalWidth === 64")
    clip = "getComputedStyle(document.getElementById('video')).clipPath"
    half = page.ask(clip)
    page.ask("at('split').value = 100; at('split').dispatchEvent(new Event('input'))")
    assert page.ask(clip) != half and page.ask("!at('splitter').hidden")
    page.picture(tmp_path / "beside.png")
    for name in ("women/dress-0", "women/dress-2"):
        page.press("Escape")
        page.until(CLOSED)
        show(page, name)
        page.until("at('video').currentTime > 0 && at('splitter').hidden")
        assert page.ask(clip) == "none"
    assert not [line for line in page.complaints if "broken.jpg" not in str(line)]


def test_photo_and_video_lie_on_each_other(page: devtools.Page, tmp_path: Path) -> None:
    """Where the background was extended (the photo is smaller than the video), and where the photo was cropped."""
    Image.new("RGB", (64, 80), "teal").save(tmp_path / "a.jpg")
    wide = record(2, item="wide", output="wide.mp4", poster="", source=str(tmp_path / "a.jpg"), width=128, height=80)
    wide |= {"photo_box": [0.25, 0, 0.5, 1]}
    cropped = record(3, item="crop", output="crop.mp4", poster="", source=str(tmp_path / "a.jpg"), width=64, height=64)
    cropped |= {"photo_box": [0, -0.125, 1, 1.25]}
    out = catalogue(tmp_path / "out", 0)
    for one in (wide, cropped):
        frames = np.full((3, one["height"], one["width"], 3), 120, np.uint8)
        video.write(frames, out / one["output"], 25, 3)
    (out / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (wide, cropped)))
    opened(page, out)
    boxes = """(() => {
      const [video, photo] = ["video", "photo"].map(id => document.getElementById(id).getBoundingClientRect());
      return [(photo.left - video.left) / video.width, (photo.top - video.top) / video.height,
        photo.width / video.width, photo.height / video.height, video.width / video.height];
    })()"""
    for one in (wide, cropped):
        for width in (1200, 400):
            page.open((out / "index.html").as_uri(), width=width)
            show(page, one["item"])
            page.until("document.getElementById('photo').naturalWidth === 64")
            *found, shape = page.ask(boxes)
            assert found == pytest.approx(one["photo_box"], abs=0.01)
            assert shape == pytest.approx(one["width"] / one["height"], abs=0.01)
            page.picture(tmp_path / f"{one['item']}-{width}.png")
    assert page.complaints == []


def test_pictures_as_videos(page: devtools.Page, tmp_path: Path) -> None:
    out = catalogue(tmp_path / "out", 1)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    video.write(frames, out / "a.gif", 10, 3)
    text = (out / "manifest.jsonl").read_text()
    more = record(7) | {"item": "a", "output": "a.gif", "poster": ""}
    (out / "manifest.jsonl").write_text(text + json.dumps(more) + "\n")
    opened(page, out)
    page.move_to(".card .shot")
    page.until("document.querySelector('.shot:hover img.moving')?.naturalWidth === 32")
    assert page.complaints == []


@pytest.mark.slow
def test_posters_of_two_thousand_items_come_as_they_near_the_window(page: devtools.Page, tmp_path: Path) -> None:
    out = catalogue(tmp_path / "out", 2000)
    opened(page, out)
    assert visible(page) == 2000
    assert sum(url.endswith(".jpg") for url in page.requests) < 200
    page.ask(SCROLL)
    page.until("scrollY > 20000")
    assert sum(url.endswith(".jpg") for url in page.requests) < 2000
    assert page.complaints == []


@pytest.mark.parametrize(
    "place", ["//127.0.0.1:9/x.mp4", "/etc/passwd", "../x.mp4", "a/../../x.mp4", "\\\\host\\x.mp4"]
)
def test_addresses_of_a_manifest_stay_inside_the_folder(tmp_path: Path, place: str) -> None:
    out = catalogue(tmp_path / "out", 2)
    with (out / "manifest.jsonl").open("a") as manifest:
        manifest.write(json.dumps(record(98, item="odd", output=place, poster=place)) + "\n")
    (page,) = gallery.build(out, everything_is_there=True)
    text = page.read_text()
    links = [link for video in content(page)["videos"] for link in video["files"].values()]
    assert len(list(filter(None, links))) == 4 and not [
        link for link in links if link.startswith(("/", "\\", "%5C")) or ".." in link
    ]
    assert "default-src 'none'" in text and "script-src 'sha256-" in text


def test_gallery_command_rebuilds_the_page(tmp_path: Path) -> None:
    out = catalogue(tmp_path / "out", 3, failed(1))
    result = run("gallery", "out", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "out/index.html\n", "")
    text = (out / "index.html").read_text()
    assert (
        not re.findall(r'(?:src|href)="(?:https?:)?//', text) and "3 videos, 1 of them flagged, 1 photo failed" in text
    )
    (out / "women" / "dress-1.mp4").unlink()
    assert run("gallery", "out", cwd=tmp_path).returncode == 0
    assert "the video is gone" in (out / "index.html").read_text()
    moved = out.rename(tmp_path / "elsewhere")  # links are relative
    assert str(out) not in (moved / "index.html").read_text()
    assert_refused(run("gallery", "nowhere", cwd=tmp_path), 1, "nowhere: contains no manifest.jsonl")
    (moved / "manifest.jsonl").write_text("not json\n")
    result = run("gallery", "elsewhere", cwd=tmp_path)
    assert result.returncode == 0 and "line 1 is not a record" in result.stderr


def test_large_catalogues_get_several_pages_what_needs_a_look_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PER_PAGE", 5)
    out = catalogue(tmp_path / "out", 12, failed(1))
    pages = gallery.build(out)
    assert [page.name for page in pages] == ["index.html", "index-2.html", "index-3.html"]
    videos = content(pages[0])["videos"]
    assert [video["status"] for video in videos].count("failed") == 1
    assert sum(bool(video["flags"]) for video in videos) == 3
    assert [content(page)["page"] for page in pages] == [0, 1, 2]
    monkeypatch.setattr(gallery, "PER_PAGE", 50)
    assert len(gallery.build(out)) == 1
    assert not (out / "index-2.html").exists() and not (out / "index-3.html").exists()


@pytest.mark.slow
def test_of_a_large_catalogue_little_is_held(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / "manifest.jsonl").open("w") as file:
        file.writelines(json.dumps(record(number)) + "\n" for number in range(6000))
        file.writelines(json.dumps(record(number, flags=["still"])) + "\n" for number in range(0, 6000, 100))
    tracemalloc.start()
    first, *others = gallery.build(out, everything_is_there=True)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6, peak  # 100 MB when every card was held
    assert len(others) == 2
    assert sum(video["flags"] == ["still"] for video in content(first)["videos"]) == 60


def test_names_in_natural_order_and_any_bytes(tmp_path: Path) -> None:
    out = catalogue(tmp_path / "out", 12)
    name = "\udcff\udcfe"
    shutil.copy(out / "first.mp4", out / f"{name}.mp4")
    with (out / "manifest.jsonl").open("a") as file:
        file.write(json.dumps(record(3, item=name, output=f"{name}.mp4", poster="", caption="half \ud800")) + "\n")
    videos = content(gallery.build(out)[0])["videos"]
    names = [video["photo_name"] for video in videos]
    assert names.index("women/dress-9") < names.index("women/dress-10")
    (odd,) = (video for video in videos if video["files"]["video"] == "%FF%FE.mp4")
    assert (odd["photo_name"], odd["prompt"]) == ("\ufffd\ufffd", "half \ufffd")
    with pytest.raises(FashionFlowError, match=r"contains no manifest\.jsonl"):
        gallery.build(tmp_path)
