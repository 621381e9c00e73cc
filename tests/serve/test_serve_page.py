"""The page of `fashionflow serve` in Chromium, as a merchandiser uses it: with mouse, keyboard and a telephone."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import devtools
import pytest
from quick_model import HELD, HOLD, POISON
from serving import Server, picture, serving

from fashionflow_core.catalogue import gallery

AXE = "axe-core@4.14.1"
KEY = "0123456789abcdef0123456789abcdef"
DONE = "document.querySelectorAll('.card:not(.failed) button:enabled').length"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "hold").touch()
    with serving(tmp_path / "out", "--queue", "6", env={HOLD: str(tmp_path / "hold")}) as server:
        yield server


def opened(page: devtools.Page, server: Server, **size: int) -> devtools.Page:
    page.open("data:text/html,")  # away from an earlier server, which is gone
    page.requests.clear()
    page.complaints.clear()
    page.open(f"http://127.0.0.1:{server.port}/", **size)
    page.until("document.getElementById('count').textContent !== ''")
    return page


def photo(folder: Path, name: str, red: int, green: int = 90, blue: int = 60) -> Path:
    path = folder / name
    path.write_bytes(picture(red, green, blue))
    return path


def text(page: devtools.Page, selector: str) -> str:
    return page.ask(f"document.querySelector({selector!r}).textContent")


def assert_clean(page: devtools.Page, server: Server) -> None:
    """No errors, and nobody else was asked."""
    assert page.complaints == []
    own = (f"http://127.0.0.1:{server.port}/", "data:", "blob:")
    assert [url for url in page.requests if not url.startswith(own)] == []


@pytest.mark.slow
def test_photos_become_videos_that_are_reviewed(page: devtools.Page, server: Server, tmp_path: Path) -> None:
    opened(page, server)
    assert text(page, "#none") == "No videos here yet."
    page.choose("#files", photo(tmp_path, "blue.png", 20, 20, 120))
    page.until(f"{DONE} === 1")
    page.choose("#files", photo(tmp_path, "held.png", 250, 5, HELD))
    page.until("document.querySelector('.card progress:not([hidden])') !== null")
    page.until("document.getElementById('count').textContent.includes('1 being made')")
    (tmp_path / "hold").unlink()
    page.until(f"{DONE} === 2")
    page.until("!document.querySelector('.card progress:not([hidden])')")

    page.click(".card:last-child button")
    page.until("document.getElementById('video').readyState >= 2")
    assert text(page, "#look-title") == "blue.png"
    assert page.ask("document.getElementById('photo').naturalWidth") == 64
    page.click("#split")
    page.press("ArrowRight")
    assert page.ask("document.getElementById('compare').style.getPropertyValue('--split')") == "51%"
    page.click("#look-title")
    page.press("a")
    page.until("document.getElementById('approve').getAttribute('aria-pressed') === 'true'")
    page.press("ArrowLeft")
    assert text(page, "#look-title") == "held.png"
    page.click("#reject")
    page.until("document.getElementById('reject').getAttribute('aria-pressed') === 'true'")
    page.click("#again")
    page.until("document.querySelectorAll('#siblings button').length === 2")
    assert page.ask("[...document.querySelectorAll('#siblings button')].map(b => b.ariaLabel)") == [
        "Variation 1: Rejected",
        "Variation 2: To review",
    ]
    page.press("Escape")
    page.until("!document.getElementById('look').open")
    page.until("document.activeElement.ariaLabel === 'held.png, variation 1: Rejected'")

    page.click("[data-show=approved]")
    page.until("document.getElementById('count').textContent === '1 of 3 shown'")
    assert page.ask("document.getElementById('zip').href").endswith("/v1/download?format=zip&review=approved")
    reviews = [json.loads(line)["verdict"] for line in (server.folder / "review.jsonl").read_text().splitlines()]
    assert reviews == ["approved", "rejected"]
    page.click("[data-show='']")
    opened(page, server)  # all of it is there again
    page.until("document.getElementById('count').textContent === '3 of 3 shown'")
    assert_clean(page, server)


@pytest.mark.slow
def test_dropped_photos_with_variations_wait_for_room_and_bad_ones_are_named(
    page: devtools.Page, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "hold").unlink()
    opened(page, server)
    page.ask("document.getElementById('variations').value = '3'")
    (tmp_path / "note.png").write_text("not a photo")
    photos = [photo(tmp_path, f"{number}.png", 30 * number) for number in range(1, 5)]
    page.drop("#drop", *photos, tmp_path / "note.png", photo(tmp_path, "bad.png", 250, 5, POISON))
    page.until(f"{DONE} === 12")
    page.until("document.querySelectorAll('.card.failed').length === 3")
    assert "note.png: input_reference: is not a photo" in text(page, "#refused")
    names = page.ask("[...document.querySelectorAll('.card b')].map(b => b.textContent)")
    assert {f"{number}.png, variation {place}" for number in range(1, 5) for place in (1, 2, 3)} <= set(names)
    assert "poison" in text(page, ".card.failed .state")
    page.click("[data-show=failed]")
    page.until("document.getElementById('count').textContent === '3 of 15 shown'")
    page.click("[data-show='']")
    page.click(".card:not(.failed) button")
    page.until("document.getElementById('video').readyState >= 2")
    first = text(page, "#look-title")
    page.click("#siblings button:not([aria-pressed=true])")
    assert text(page, "#look-title") != first and first.split(",")[0] in text(page, "#look-title")
    assert page.complaints == [] or all("status of 4" in line for line in page.complaints)  # refused and full


@pytest.mark.slow
def test_the_whole_page_works_from_the_keyboard(page: devtools.Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "hold").unlink()
    server.wait(server.made(picture(90), name="dress.png"))
    opened(page, server)
    reached = []
    for _ in range(30):
        page.press("Tab")
        reached.append(page.ask("document.activeElement.id || document.activeElement.ariaLabel || ''"))
        if "dress.png" in str(reached[-1]):
            break
    assert "files" in reached and "seconds" in reached and "zip" in reached and "dress.png" in reached[-1]
    page.press("Enter")
    page.until("document.getElementById('look').open")
    page.press("r")
    page.until("document.getElementById('reject').getAttribute('aria-pressed') === 'true'")
    page.until("document.querySelector('#news').textContent.includes('Rejected')")
    page.press("r")
    page.until("document.getElementById('reject').getAttribute('aria-pressed') === 'false'")
    page.press("Escape")
    assert_clean(page, server)


@pytest.mark.slow
def test_it_fits_a_telephone(page: devtools.Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "hold").unlink()
    server.wait(server.made(picture(90), name="a dress with a name that is much too long for a telephone" * 3))
    opened(page, server, width=360, height=740)
    assert page.ask("document.documentElement.scrollWidth") <= 360
    page.click(".card button")
    page.until("document.getElementById('video').readyState >= 2")
    box = page.ask(
        "(() => { const b = document.getElementById('look').getBoundingClientRect(); return [b.x, b.right]; })()"
    )
    assert box[0] >= 0 and box[1] <= 360
    small = page.ask(
        "[...document.querySelectorAll('button, select, input')].filter(e => e.offsetHeight && e.type !== 'checkbox'"
        " && e.offsetHeight < 32).map(e => e.outerHTML)"
    )
    assert [one for one in small if "progress" not in one and 'type="file"' not in one] == []


@pytest.mark.slow
def test_a_key_is_asked_for_once(page: devtools.Page, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    (tmp_path / "keys").chmod(0o600)
    with serving(tmp_path / "out", "--api-key-file", tmp_path / "keys") as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.until("document.getElementById('key-dialog').open")
        page.type("wrong")
        page.press("Enter")
        page.until("document.getElementById('key-problem').textContent !== ''")
        page.ask("document.getElementById('key').value = ''")
        page.type(KEY)
        page.press("Enter")
        page.until("!document.getElementById('key-dialog').open")
        page.until("document.getElementById('count').textContent !== ''")
        page.open(f"http://127.0.0.1:{server.port}/")
        page.until("document.getElementById('count').textContent === '0 of 0 shown'")
        assert page.ask("document.cookie") == ""  # no script can read it


@pytest.mark.slow
def test_texts_of_clients_are_texts(page: devtools.Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "hold").unlink()
    evil = '"><img src=x onerror=console.error("evil")><script>console.error("evil")</script>'
    server.wait(server.made(picture(66), name=evil, prompt=evil))
    opened(page, server)
    assert text(page, ".card b") == evil
    page.click(".card button")
    page.until("document.getElementById('video').readyState >= 2")
    assert text(page, "#look-title") == evil
    page.press("Escape")
    assert_clean(page, server)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core (MPL-2.0), which is not part of this repository."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, which brings axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", AXE]
    if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
        pytest.skip(f"npm could not bring {AXE}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def violations(page: devtools.Page, axe: str) -> list[Any]:
    """What axe-core finds: the rule, and the elements."""
    page.ask(axe + "; 0")
    rules = "r.violations.map(v => [v.id, v.nodes.map(n => n.html)])"
    return json.loads(page.ask(f"axe.run().then(r => JSON.stringify({rules}))"))


@pytest.mark.slow
def test_axe_finds_nothing(page: devtools.Page, server: Server, tmp_path: Path, axe: str) -> None:
    (tmp_path / "hold").unlink()
    made = [server.made(picture(90), name="dress.png", variations=2), server.made(picture(250, 5, POISON))]
    server.wait(*made)
    server.ask("POST", f"/v1/videos/{made[0]}/review", {"verdict": "approved"})
    for scheme in ("light", "dark"):
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        opened(page, server)
        page.until(f"{DONE} === 2")
        for step in ("", ".card:not(.failed) button"):
            if step:
                page.click(step)
                page.until("document.getElementById('video').readyState >= 2")
            assert violations(page, axe) == [], (scheme, step)
        page.press("Escape")
    (folder, *_) = gallery.build(server.folder)
    page.open(folder.as_uri())
    for step in ("", ".card:not(.failed) button"):
        if step:
            page.click(step)
            page.until("document.getElementById('video').readyState >= 2")
        assert violations(page, axe) == [], ("folder", step)
    page.send("Emulation.setEmulatedMedia", features=[])
