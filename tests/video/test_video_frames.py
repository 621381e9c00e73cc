"""A folder of frames is there whole or not at all, and never costs a file that is not ours."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from clips import flat, moving
from PIL import Image

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.video import FrameFolder


def fill(path: Path, count: int = 3, overwrite: bool = False) -> list[np.ndarray]:
    frames = list(moving(count))
    with FrameFolder(path, overwrite) as folder:
        for frame in frames:
            folder.add(frame)
    return frames


def listing(path: Path) -> list[str]:
    return sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*"))


def test_frames_are_numbered_pngs_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    frames = fill(path, 12)
    assert listing(tmp_path) == ["frames", *(f"frames/frame-{number:04d}.png" for number in range(1, 13))]
    for number, frame in enumerate(frames, 1):
        with Image.open(path / f"frame-{number:04d}.png") as picture:
            assert picture.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(picture), frame)


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with FrameFolder(path) as folder:
        for frame in moving(3):
            folder.add(frame)
            assert not path.exists()
    assert (folder.count, len(listing(path))) == (3, 3)


def test_same_frames_give_the_same_bytes_and_usual_permissions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name)
    for file in listing(tmp_path / "a"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").touch()
    mode = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")}
    assert mode["a"] == mode["plain"]
    assert stat.S_IMODE((tmp_path / "a/frame-0001.png").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain.txt").stat().st_mode
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, FashionFlowError])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("before", [False, True])
def test_an_error_passes_through_and_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], after: int, before: bool
) -> None:
    path = tmp_path / "frames"
    if before:
        fill(path, 4)
    old = listing(tmp_path)
    with pytest.raises(error, match="from the model"), FrameFolder(path, overwrite=True) as folder:
        for frame in moving(after):
            folder.add(frame)
        raise error("from the model")
    assert listing(tmp_path) == old


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "frames"
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(FashionFlowError, match="could not be written") as caught, FrameFolder(path) as folder:
            folder.add(np.zeros((64, 64, 3), np.uint8))
            folder.add(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in caught.value.message
    assert listing(tmp_path) == []


def test_frames_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with pytest.raises(FashionFlowError, match="frame 1 is 32x34, unlike frame 0: 32x32"), FrameFolder(path) as folder:
        folder.add(flat((1, 2, 3)))
        folder.add(flat((1, 2, 3), 32, 34))
    with pytest.raises(FashionFlowError, match="must be uint8"), FrameFolder(path) as folder:
        folder.add(np.zeros((8, 8, 3)).astype("float32"))
    with pytest.raises(FashionFlowError, match="got no frames"), FrameFolder(path):
        pass
    assert listing(tmp_path) == []


def test_an_empty_folder_is_filled_and_one_with_frames_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    fill(path, 5)
    with pytest.raises(FashionFlowError, match="already contains frames") as caught:
        FrameFolder(path)
    assert "overwrite=True" in (caught.value.hint or "")
    fill(path, 2, overwrite=True)  # and the three frames too many are gone
    assert listing(tmp_path) == ["frames", "frames/frame-0001.png", "frames/frame-0002.png"]


@pytest.mark.parametrize("other", ["notes.txt", ".hidden", "frame-1.png", "frame-0001.png.bak", "frame-0001.PNG"])
def test_a_folder_with_a_file_of_the_user_is_never_touched(tmp_path: Path, other: str) -> None:
    path = tmp_path / "frames"
    fill(path, 2)
    (path / other).write_text("mine")
    old = listing(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(FashionFlowError, match=f"contains more than frames, such as {other}"):
            FrameFolder(path, overwrite)
    assert listing(tmp_path) == old


def test_folders_and_links_named_like_frames_are_the_users(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    (path / "frame-0001.png").mkdir(parents=True)
    with pytest.raises(FashionFlowError, match="contains more than frames"):
        FrameFolder(path, overwrite=True)
    (path / "frame-0001.png").rmdir()
    (tmp_path / "precious.png").write_text("mine")
    (path / "frame-0001.png").symlink_to(tmp_path / "precious.png")
    with pytest.raises(FashionFlowError, match="contains more than frames"):
        FrameFolder(path, overwrite=True)
    assert (tmp_path / "precious.png").read_text() == "mine"


def test_a_file_that_comes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    fill(path, 2)
    with (
        pytest.raises(FashionFlowError, match="contains more than frames"),
        FrameFolder(path, overwrite=True) as folder,
    ):
        folder.add(flat((1, 2, 3)))
        (path / "notes.txt").write_text("mine")
    assert listing(tmp_path) == ["frames", "frames/frame-0001.png", "frames/frame-0002.png", "frames/notes.txt"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frames"
    fill(path, 4)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target) == path and len(list(self.iterdir())) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FashionFlowError, match="input/output error"):
        fill(path, 2, overwrite=True)
    assert listing(tmp_path) == ["frames", *(f"frames/frame-{number:04d}.png" for number in range(1, 5))]


def test_what_cannot_become_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FashionFlowError, match="is a file"):
        FrameFolder(tmp_path / "file", overwrite=True)
    with pytest.raises(FashionFlowError, match="does not exist"):
        FrameFolder.check(tmp_path / "no" / "frames", overwrite=False)
    assert listing(tmp_path) == ["file"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/frames").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk/frames")
    fill(tmp_path / "link", 2)
    assert (tmp_path / "link").is_symlink()
    assert listing(tmp_path / "disk") == ["frames", "frames/frame-0001.png", "frames/frame-0002.png"]


def test_names_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("frames"))
    os.chdir(tmp_path)
    assert len(listing(tmp_path / "frames")) == 3
    shutil.rmtree("frames")
