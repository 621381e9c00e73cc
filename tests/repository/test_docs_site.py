"""The documentation site: it builds without warnings, is current, and its pages load nothing from other servers."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import docs_reference
import pytest
import typer
from places import ROOT

from fashionflow_cli.main import app

# Attributes whose address a browser loads together with the page. Links (`a href`) load nothing.
LOADED = {"src", "srcset", "poster", "data"}


@pytest.mark.parametrize("name", docs_reference.PAGES)
def test_the_reference_is_current(name: str) -> None:
    page = (docs_reference.REFERENCE / name).read_text(encoding="utf-8")
    assert page == docs_reference.PAGES[name](), "run: python scripts/docs_reference.py --write"


def test_every_option_and_setting_of_the_reference_is_described() -> None:
    for name in ("commands.md", "settings.md"):
        empty = [line for line in docs_reference.PAGES[name]().splitlines() if re.fullmatch(r"\| `.*\| +\|", line)]
        assert empty == []


def _lines_of_code() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every `fashionflow` command in a block of code."""
    for page in [ROOT / "README.md", *sorted(docs_reference.DOCS.rglob("*.md"))]:
        blocks = re.findall(r"^```(?:console)?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            text = re.sub(r"\s#\s.*", "", line.removeprefix("$ "))
            if text.startswith("fashionflow ") and "..." not in text and "|" not in text:
                yield page.name, shlex.split(text.split("<")[0])


def test_every_command_and_option_of_the_documentation_exists() -> None:
    known = {
        tuple(name.split()): {flag for parameter in command.params for flag in parameter.opts}
        for name, command in docs_reference.walk(typer.main.get_command(app), "fashionflow")
    }
    known["fashionflow", "config", "show"] |= known["fashionflow", "generate"]
    found = list(_lines_of_code())
    assert len(found) > 80
    for page, words in found:
        command = next((name for name in known if tuple(words[: len(name)]) == name), None)
        flags = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        if command is None:
            assert flags & {"--install-completion", "--version", "--help"}, (page, words)
        else:
            assert flags <= known[command] | {"--help"}, (page, words)


class _Loaded(HTMLParser):
    """Addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [values[name] for name in LOADED & set(values)]
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values.get("href", ""))


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_other_servers(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in parser.found if re.match(r"(https?:)?//", address)], page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
