"""Frames as numbered PNG files."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fashionflow_core.errors import FashionFlowError, option, reason_of
from fashionflow_core.utils.files import check_name, set_mode, sync
from fashionflow_core.utils.temporary import KEPT, temporary_folder
from fashionflow_core.video import marking

_FRAME_NAME = re.compile(r"frame-\d{4,}\.png")


def check_frame(frame: NDArray[np.uint8], shape: tuple[int, ...], name: str) -> None:
    """Check that a frame is uint8 (h, w, 3) and has the shape of the first one.

    Raises:
        FashionFlowError: the message begins with `name`.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FashionFlowError(
            f"{name} must be uint8 (h, w, 3), not {kind}", hint="convert them: array.clip(0, 255).astype(numpy.uint8)"
        )
    height, width, _ = frame.shape
    if 0 in frame.shape:
        raise FashionFlowError(
            f"{name} is {height}x{width}: it has no pixels", hint="give frames of at least 1x1 pixel"
        )
    if frame.shape != shape:
        raise FashionFlowError(
            f"{name} is {height}x{width}, unlike frame 0: {shape[0]}x{shape[1]}", hint="bring all frames to one size"
        )


class FrameFolder:
    """Collects frames as `frame-0001.png`, `frame-0002.png`, ... and puts the folder in place when all are there.

    A context manager: frames go into a hidden folder next to `path`, which is flushed and renamed to `path` at the end.
    After any exception, KeyboardInterrupt included, it is removed and `path` is unchanged. Only folders that contain
    nothing but such frames are replaced.

        with FrameFolder("frames", overwrite=False) as folder:
            for frame in frames:  # uint8 (h, w, 3)
                folder.add(frame)
    """

    def __init__(self, path: str | Path, overwrite: bool = False, mark: bool = False) -> None:
        """`path` is the folder to create; it may exist if it is empty or, with `overwrite`, contains frames.

        `mark`: each file carries the mark of generated pictures (`video.marking`).

        Raises:
            FashionFlowError: as `check`.
        """
        self.path = self.check(path, overwrite)
        self._overwrite = overwrite
        self._text = marking.png_text() if mark else None
        self._temporary: Path | None = None
        self._shape: tuple[int, ...] = ()
        self.count = 0

    @staticmethod
    def check(path: str | Path, overwrite: bool) -> Path:
        """Check the folder before any work; returns the path.

        Raises:
            FashionFlowError: the parent is missing or not writable; `path` is a file; it contains
                frames, and `overwrite` is false; or it contains other files, which are never deleted.
        """
        path = Path(path)
        check_name(path)
        parent = path.resolve().parent
        if not parent.is_dir():
            raise FashionFlowError(f"{path}: the folder {parent} does not exist", hint=f"create it: mkdir -p {parent}")
        if not os.access(parent, os.W_OK):
            raise FashionFlowError(f"{path}: the folder {parent} is not writable", hint="choose another folder")
        if path.exists() and not path.is_dir():
            raise FashionFlowError(f"{path}: is a file, not a folder for frames", hint="choose another name")
        if not path.is_dir():
            return path
        # Folders named like frames and links count as files of the user.
        others = sorted(e.name for e in os.scandir(path) if not _is_frame(e))
        if others:
            raise FashionFlowError(
                f"{path}: contains more than frames, such as {others[0]}", hint="choose a new folder"
            )
        if not overwrite and any(path.iterdir()):
            raise FashionFlowError(
                f"{path}: already contains frames", hint=f"pass {option('overwrite', True)}, or choose another folder"
            )
        return path

    def __enter__(self) -> Self:
        target = self.path.resolve()
        self._temporary = temporary_folder(target)
        return self

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Write one frame, uint8 (h, w, 3), RGB 0 to 255, of the same size as those before it.

        Raises:
            FashionFlowError: another kind or size of frame, or a full disk.
        """
        from PIL import Image

        if self._temporary is None:
            raise RuntimeError("frames are added inside `with FrameFolder(...)`")
        self._shape = self._shape or np.shape(frame)
        check_frame(frame, self._shape, f"{self.path}: frame {self.count}")
        name = f"frame-{self.count + 1:04d}.png"
        try:
            Image.fromarray(np.ascontiguousarray(frame)).save(self._temporary / name, pnginfo=self._text)
        except OSError as error:
            raise self._unwritten(error) from None
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is None:
            return
        try:
            if kind is None:
                self._finish(temporary)
        except OSError as failure:
            raise self._unwritten(failure) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _finish(self, temporary: Path) -> None:
        if not self.count:
            raise FashionFlowError(f"{self.path}: got no frames", hint="give at least one frame")
        for file in temporary.iterdir():
            sync(file)
        set_mode(temporary)  # temporary folders are private
        sync(temporary)
        self.check(self.path, self._overwrite)  # again: files may have been added meanwhile
        target = self.path.resolve()
        if not target.exists():
            temporary.rename(target)
        else:
            _replace(temporary, target)
        sync(target.parent)

    def _unwritten(self, error: OSError) -> FashionFlowError:
        return FashionFlowError(
            f"{self.path}: could not be written ({reason_of(error)})", hint="check the disk, then try again"
        )


def _is_frame(entry: "os.DirEntry[str]") -> bool:
    return _FRAME_NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def _replace(temporary: Path, target: Path) -> None:
    """Replace a folder of frames, which is restored if that fails."""
    # With these names a crash between the two renames loses nothing: see `temporary.sweep`.
    aside = temporary_folder(target)
    made, replaced = aside / "made", aside / "replaced"
    try:
        temporary.rename(made)
        target.rename(replaced)
        try:
            made.rename(target)
        except BaseException:
            replaced.rename(target)
            raise
        for entry in [e for e in os.scandir(replaced) if _is_frame(e)]:
            os.unlink(entry.path)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        with suppress(OSError):
            replaced.rmdir()
        with suppress(OSError):  # files of the user that were added meanwhile
            replaced.rename(aside / KEPT)
        with suppress(OSError):
            aside.rmdir()
