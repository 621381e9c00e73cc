"""Lists of photos as spreadsheets, other systems and people write them."""

from pathlib import Path

import pytest
from places import GOLDEN

from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.list_files import read_list

CASES = GOLDEN / "cases"
RED = ("dress.jpg", {"caption": "Red"})


@pytest.mark.parametrize(
    "name, rows",
    [
        ("excel-sep-line.csv", [RED]),
        ("excel-blank-rows.csv", [RED]),
        ("mac-cr.csv", [RED]),
        ("quoted.txt", ["dress.jpg"]),
    ],
)
def test_lists_as_they_come(name: str, rows: list[object]) -> None:
    path = CASES / name
    assert list(read_list(path.read_bytes(), name, path.suffix)) == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_encodings_of_lists(encoding: str, suffix: str) -> None:
    text = "photo;caption\r\nKostüm.jpg;Größe\r\n" if suffix == ".csv" else "Kostüm.jpg\r\n"
    (found,) = read_list(text.encode(encoding), "list", suffix)
    assert found == (("Kostüm.jpg", {"caption": "Größe"}) if suffix == ".csv" else "Kostüm.jpg")


def test_a_file_whose_name_is_no_text_is_found_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of raw bytes is left alone where such a file is there; else the list is taken for Windows text."""
    monkeypatch.chdir(tmp_path)
    try:
        Path(b"caf\xe9.jpg".decode(errors="surrogateescape")).touch()
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    rows = list(read_list(b"caf\xe9.jpg\nth\xe9.jpg\n", "list", ".txt"))
    assert rows == ["caf\udce9.jpg", "thé.jpg"]


def test_urls_of_local_files_from_several_folders(tmp_path: Path) -> None:
    lines = [f"file://{tmp_path}/a/one%20dress.jpg", f"file://{tmp_path}/b/two.jpg"]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(lines))
    entries = read_inputs([str(listed)], tmp_path / "out", bytes).entries
    assert [entry.name for entry in entries] == ["a/one dress", "b/two"]
    assert [entry.source for entry in entries] == [f"{tmp_path}/a/one dress.jpg", f"{tmp_path}/b/two.jpg"]


def test_queries_are_no_part_of_names(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("https://shop.example/a/dress.jpg?width=800&v=2\nhttps://shop.example/b/coat.png#top\n")
    entries = read_inputs([str(listed)], tmp_path / "out", bytes).entries
    assert [entry.name for entry in entries] == ["a/dress", "b/coat"]
