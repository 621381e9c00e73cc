"""Which photos a catalogue takes, what their videos are called, and that none leaves the output folder."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from catalogues import QUICK, assert_whole, conventions, files, last, photo, quick, shop
from command import assert_refused, environment
from photos import CASES

from fashionflow_core import video
from fashionflow_core.catalogue.inputs import Entry, read_inputs
from fashionflow_core.catalogue.naming import MAX_BYTES, POSTER, plan_items, shortened
from fashionflow_core.errors import FashionFlowError, UsageError


def read(*arguments: str, out: str = "out", stdin: bytes = b"") -> list[Entry]:
    return list(read_inputs(arguments, Path(out), lambda: stdin).entries)


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    return [entry.name for entry in read(*arguments, stdin=stdin)]


def items(*sources: str, known: dict[str, list[str]] | None = None) -> list[str]:
    return [item.name for item in plan_items([Entry(s, os.path.splitext(s)[0]) for s in sources], known=known)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Folders, patterns, paths


def test_a_chosen_name_holds_though_its_photo_moved():
    moved = [Entry("here/dress.png", "dress", own_name=True)]
    assert [item.name for item in plan_items(moved, known={"there/dress.png": ["dress"]})] == ["dress"]


def test_folders_are_mirrored_and_links_followed_once(here: Path) -> None:
    for name in ("b.jpg", "a/c.JPEG", "a/b/d.webp", ".git/e.jpg", "notes.md", "out/f.jpg"):
        photo(here / "shop" / name) if not name.endswith(".md") else (here / "shop" / name).write_text("")
    photo(here / "elsewhere" / "g.jpg")
    (here / "shop" / "linked").symlink_to(here / "elsewhere")
    (here / "shop" / "a" / "loop").symlink_to(here / "shop")
    (here / "shop" / "gone.jpg").symlink_to(here / "nothing.jpg")
    (here / "shop" / "nosuffix").write_bytes((here / "shop" / "b.jpg").read_bytes())
    inputs = read_inputs(["shop"], Path("shop/out"), bytes)
    assert [entry.name for entry in inputs.entries] == ["a/b/d", "a/c", "b", "gone", "linked/g", "nosuffix"]
    assert inputs.skipped.files == {".md": 1}


def test_links_that_lead_in_circles_and_patterns_over_them(here: Path) -> None:
    """glob follows them forty times, and a link to itself is not even a folder."""
    photo(here / "shop" / "a" / "b.jpg")
    for link, target in (("up", "."), ("again", ".."), ("one", "two"), ("two", "one"), ("c.jpg", "c.jpg")):
        (here / "shop" / link).symlink_to(target)
    assert names("shop") == ["a/b", "c"]
    assert names("shop/**/*.jpg") == names("./shop/**") == ["a/b", "c"]
    assert [entry.source for entry in read("**/a/*.jpg")] == ["shop/a/b.jpg"]
    assert names("sh*/**/?.jpg") == ["shop/a/b", "shop/c"]
    (here / "round").symlink_to("round")
    assert [entry.name for entry in read("shop", out="round")] == ["a/b", "c"]


def test_the_folder_of_the_photos_is_no_output_folder(here: Path) -> None:
    photo(here / "shop" / "a.jpg")
    photo(here / "out" / "a-poster.jpg")
    for argument, out in (("shop", "shop"), ("shop/*.jpg", "shop"), ("shop/**", "./shop"), ("**/*.jpg", ".")):
        with pytest.raises(UsageError, match="out: is where the photos of"):
            read(argument, out=out)
    assert [entry.name for entry in read("shop", out=".")] == [entry.name for entry in read("shop/*", out=".")] == ["a"]
    assert [entry.source for entry in read("*/*.jpg")] == ["shop/a.jpg"]  # posters are no photos


def test_patterns_and_several_paths_keep_the_folders_they_differ_in(here: Path) -> None:
    for name in ("s/a/1.jpg", "s/a/2.png", "s/b/1.jpg", "s/b/c/3.jpg", "s/note.txt"):
        photo(here / name) if not name.endswith(".txt") else (here / name).write_text("")
    assert names("s/**/*.jpg") == ["a/1", "b/1", "b/c/3"]
    assert names("s/a/*") == ["1", "2"]
    assert names("s/a/1.jpg", "s/a/2.png") == ["1", "2"]
    assert names("s/a/1.jpg", "s/b/1.jpg") == ["a/1", "b/1"]
    assert names("s/a", "s/b") == ["a/1", "a/2", "b/1", "b/c/3"]
    assert names("s/a/1.jpg", "s/a/1.jpg") == ["1"]
    odd = photo(here / "s" / "a[1]*.jpg")  # a file of that name is no pattern
    assert names(str(odd), "s/a/1.jpg") == ["a[1]*", "a/1"]


# Lists


def test_lists(here: Path) -> None:
    photo(here / "p" / "a.jpg")
    listed = "p/a.jpg\r\n\n  \np/b c.jpg\n"
    assert names("-", stdin=listed.encode()) == ["a", "b c"]
    (here / "list.txt").write_text("\ufeff" + listed, encoding="utf-8")
    assert names("list.txt") == ["a", "b c"]
    (here / "list.csv").write_text(
        "photo;seed;Caption;output;guidance\np/a.jpg;7;Höst, röd;new/name.mp4;1.5\np/a.jpg;8;;;\n", encoding="utf-8"
    )
    one, two = read("list.csv")
    assert one == Entry("p/a.jpg", "new/name.mp4", True, "Höst, röd", {"seed": 7, "guidance_scale": 1.5})
    assert (two.source, two.settings, two.name) == ("p/a.jpg", {"seed": 8}, "a")
    rows = [{"photo": "p/a.jpg", "steps": 5, "guidance_interval": [0.1, 0.9]}, {"path": "p/b.jpg", "seed": None}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (here / "list.jsonl").write_text(text)
    for entries in (read("list.jsonl"), read("-", stdin=text.encode())):
        assert entries[0].settings == {"steps": 5, "guidance_interval": (0.1, 0.9)}
        assert entries[1].settings is None
    assert read("-", stdin=b"photo,seed\np/a.jpg,3\n")[0].settings == {"seed": 3}
    # Bytes that are no UTF-8, and no name of a file: Windows text.
    assert names("-", stdin=os.fsencode("p/\udcff\udcfe.jpg")) == ["ÿþ"]
    (here / "excel.txt").write_text("photo\tseed\np/a.jpg\t7\n", encoding="utf-16")
    (here / "excel.txt").rename(here / "excel.tsv")
    (here / "commas.csv").write_text("photo,seed,,\r\np/a.jpg,7,,\r\np/b.jpg,8,,,,\r\n")
    assert read("excel.tsv")[0].settings == read("commas.csv")[0].settings == {"seed": 7}
    assert len(read("commas.csv")) == 2


@pytest.mark.parametrize("text", ["", "\n\n", "photo,seed\n", "\ufeff"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_lists_without_photos(here: Path, text: str, suffix: str) -> None:
    (here / f"list.{suffix}").write_text(text if suffix == "csv" else text.replace("photo,seed", ""), encoding="utf-8")
    with pytest.raises(FashionFlowError, match="no photos found"):
        read(f"list.{suffix}")


@pytest.mark.parametrize(
    "text, words",
    [
        ("photo,colour\na.jpg,red\n", "line 2: unknown column 'colour'"),
        ("photo,seed\na.jpg,1,2\n", "line 2: has more values"),
        ("seed,caption,photo\n1,x,\n", "line 2: no photo in this row"),
        ('photo,caption\n"a.jpg,x\n', "list.csv, line"),
        ("photo\na\0.jpg\n", "not a list of photos"),
        ('"photo,seed\n', "list.csv, line 1"),
    ],
)
def test_lists_that_cannot_be_understood(here: Path, text: str, words: str) -> None:
    (here / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read("list.csv")


# Half a character and a zero byte, which no file's name can have.
ODD = [json.dumps({"photo": "b.jpg", key: text}) for key in ("photo", "output", "caption") for text in ("\ud800", "\0")]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"seed": 3}', "1" * 5000, "[" * 100_000, *ODD])
def test_json_lines_that_cannot_be_understood(here: Path, line: str) -> None:
    (here / "list.jsonl").write_text('{"photo": "a.jpg"}\n' + line + "\n")
    with pytest.raises(UsageError, match=r"list\.jsonl, line 2"):
        read("list.jsonl")


def test_rows_with_values_out_of_range_fail_alone(here: Path) -> None:
    (here / "list.csv").write_text(
        "photo,seed,frames,scheduler\na.jpg,-1,,\nb.jpg,x,,\nc.jpg,,,magic\nd.jpg,1,4,ddim\n"
    )
    problems = [entry.problem for entry in read("list.csv")]
    assert problems[0] and "seed" in problems[0]
    assert problems[1] and "'x'" in problems[1]
    assert problems[2] and "magic" in problems[2]
    assert problems[3] is None


# Names


def test_no_two_photos_share_a_name() -> None:
    assert items("a.jpg", "a.png", "A.PNG", "a.jpg", "b.jpg") == ["a", "a.png", "A.png-2", "a.jpg", "b"]
    composed, decomposed = unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")
    assert len({unicodedata.normalize("NFC", name) for name in items(composed, decomposed)}) == 2
    many = items(*["x.jpg"] * 50)
    assert len(set(many)) == 50


def test_photos_keep_their_names_whatever_comes_or_goes() -> None:
    known = {"a.png": ["a.png"], "a.jpg": ["a"]}
    assert items("a.png", "a.jpg", known=known) == ["a.png", "a"]
    assert items("a.png", known=known) == ["a.png"]
    assert items("a.gif", known=known) == ["a.gif"]  # "a" was another photo's


def test_names_of_lists_are_kept_or_refused() -> None:
    def planned(*names: str, known: dict[str, list[str]] | None = None) -> list[tuple[str, str | None]]:
        entries = [Entry(f"{number}.jpg", name, own_name=True) for number, name in enumerate(names)]
        return [(item.name, item.problem) for item in plan_items(entries, known=known)]

    (first, none), (other, why), (_, under), (_, empty) = planned("red", "RED.mp4", ".FashionFlow/lock", "")
    assert (first, none) == ("red", None) and other == "RED.jpg"
    assert why and "'RED.mp4' is already that of another photo" in why
    assert under and "hidden folder of the run" in under and empty and "would leave" in empty
    # A list that gives the name to another photo than last time means it.
    assert planned("red", known={"last-year.jpg": ["red"]}) == [("red", None)]


def test_long_names_are_shortened_with_a_hash() -> None:
    for stem in ("x" * 251, "é" * 125, "\udcff" * 251, "深" * 83):
        short = shortened(f"folder/{stem}")
        parts = short.split("/")
        assert parts[0] == "folder" and len(os.fsencode(parts[1])) <= MAX_BYTES
        assert len(os.fsencode(parts[1] + POSTER)) <= 255
        assert re.search(r"-[0-9a-f]{10}$", parts[1])
    assert shortened("x" * MAX_BYTES) == "x" * MAX_BYTES
    assert shortened("x" * 300) != shortened("x" * 301)


def test_long_strange_and_colliding_names_become_videos(here: Path) -> None:
    model = conventions(here / "model")
    for stem in ("x" * 250, "é" * 125, "a\nb", "'\"<b>&amp;", "100% #1?", " ", "-o"):
        photo(here / "shop" / f"{stem}.jpg")
    photo(here / "shop" / "a.jpg", 1)
    photo(here / "shop" / "a.png", 2)
    odd = os.fsdecode(b"shop/\xff\xfe.jpg")
    photo(Path(odd))
    result = quick("shop", "-o", "out", "--model", model, cwd=here)
    assert result.returncode == 0, result.stderr
    made = assert_whole(here / "out")
    assert len(made) == 10 and {"a.mp4", "a.png.mp4", "a\nb.mp4", os.fsdecode(b"\xff\xfe.mp4")} <= set(made)
    again = quick("shop", "-o", "out", "--model", model, "--quiet", cwd=here)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_outputs_cannot_leave_the_folder(here: Path) -> None:
    model = conventions(here / "model")
    shop(here / "shop", 6)
    (here / "outside").mkdir()
    (here / "out").mkdir()
    (here / "out" / "link").symlink_to(here / "outside")
    (here / "out" / "fine").mkdir()
    (here / "out" / "inner").symlink_to(here / "out" / "fine")
    (here / "outside" / "kept.mp4").write_bytes(b"kept")
    (here / "out" / "005.mp4").symlink_to(here / "outside" / "kept.mp4")
    outputs = ["../outside/a", str(here / "outside" / "b"), "x/../../outside/c", "link/d", "inner/e", "005"]
    rows = [{"photo": f"shop/{number:03d}.jpg", "output": output} for number, output in enumerate(outputs)]
    (here / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = quick("list.jsonl", "-o", "out", "--model", model, cwd=here)
    assert result.returncode == 3, result.stderr
    assert os.listdir(here / "outside") == ["kept.mp4"]
    assert (here / "outside" / "kept.mp4").read_bytes() == b"kept"
    assert [record["status"] for record in last(here / "out").values()].count("failed") == 5
    assert (here / "out" / "fine" / "e.mp4").is_file()


def test_overwriting_a_link_writes_to_its_target(here: Path) -> None:
    model = conventions(here / "model")
    shop(here / "shop", 1)
    (here / "out").mkdir()
    (here / "elsewhere.mp4").write_bytes(b"old")
    (here / "out" / "000.mp4").symlink_to(here / "elsewhere.mp4")
    result = quick("shop", "-o", "out", "--model", model, "--overwrite", cwd=here)
    assert result.returncode == 0, result.stderr
    assert (here / "out" / "000.mp4").is_symlink()
    assert len(video.read(here / "elsewhere.mp4")) == 4


def test_every_kind_of_bad_photo_fails_alone(here: Path) -> None:
    model = conventions(here / "model")
    bad = {name: case for name, case in CASES.items() if case.fails}
    (here / "shop").mkdir()
    for number, case in enumerate(bad.values()):
        (here / "shop" / f"{number:02d}{case.suffix}").write_bytes(case.make())
    shop(here / "shop" / "good", 3)
    (here / "shop" / "folder.jpg").mkdir()
    (here / "shop" / "gone.jpg").symlink_to("nothing.jpg")
    os.mkfifo(here / "shop" / "pipe.jpg")
    result = quick("shop", "-o", "out", "--model", model, cwd=here)
    assert result.returncode == 3, result.stderr
    assert assert_whole(here / "out") == ["good/000.mp4", "good/001.mp4", "good/002.mp4"]
    records = {record["source"]: record for record in last(here / "out").values()}
    for number, (name, case) in enumerate(bad.items()):
        record = records[f"shop/{number:02d}{case.suffix}"]
        assert (record["status"], record["stage"], record["error_class"]) == ("failed", "photo", "PhotoError"), name
        assert re.search(case.fails or "", record["message"]), name
    assert "no such file" in records["shop/gone.jpg"]["message"]
    assert "pipe or device" in records["shop/pipe.jpg"]["message"]
    assert len(records) == len(bad) + 5


def test_a_list_on_standard_input(here: Path) -> None:
    model = conventions(here / "model")
    shop(here / "shop", 2)
    command = [*QUICK, "generate", "-", "-o", "out", "--model", str(model), "--quiet"]
    listed = b"shop/000.jpg\nshop/001.jpg\nshop/nobody.jpg\nshop/000.jpg\n"
    result = subprocess.run(command, input=listed, cwd=here, env=environment(), capture_output=True, check=False)
    assert result.returncode == 3, result.stderr
    assert assert_whole(here / "out") == ["000.mp4", "001.mp4"]
    picture = (here / "shop" / "000.jpg").read_bytes()
    piped = subprocess.run(command, input=picture, cwd=here, env=environment(), capture_output=True, check=False)
    assert piped.returncode == 2 and b"not a list of photos" in piped.stderr


def test_captions_seeds_and_settings_of_rows_reach_the_manifest(here: Path) -> None:
    model = conventions(here / "model")
    shop(here / "shop", 2)
    (here / "list.csv").write_text(
        "photo,seed,caption,steps,output\nshop/000.jpg,11,Röd klänning,3,red\nshop/001.jpg,,,,\n"
    )
    result = quick("list.csv", "-o", "out", "--model", model, "--seed", "5", cwd=here)
    assert result.returncode == 0, result.stderr
    records = last(here / "out")
    assert (records["red"]["seed"], records["red"]["steps"], records["red"]["caption"]) == (11, 3, "Röd klänning")
    assert records["001"]["seed"] == 5 and files(here / "out")[0] == "001-poster.jpg"
    assert_refused(
        quick("nolist.csv", "-o", "out", "--model", model, "--quiet", cwd=here), 1, "nolist.csv: no such file"
    )


def test_many_paths_are_planned_in_little_memory() -> None:
    code = """
from resource import RUSAGE_SELF, getrusage
from pathlib import Path
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.naming import plan_items
text = "".join(f"/photos/spring/{n // 1000:05d}/dress-{n:07d}.jpg\\n" for n in range(100_000)).encode()
before = getrusage(RUSAGE_SELF).ru_maxrss
entries = read_inputs(["-"], Path("out"), lambda: text).entries
assert sum(1 for _ in plan_items(entries)) == 100_000
print(getrusage(RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 50_000  # kilobytes: a tenth of what a million may take
