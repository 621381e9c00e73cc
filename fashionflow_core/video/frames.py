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

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.utils.files import check_name, set_mode, sync
from fashionflow_core.utils.temporary import KEPT, temporary_folder
from fashionflow_core.video import marking

_FRAME_NAME = re.compile(r"frame-\d{4,}\.png")


def check_frame(frame: NDArray[np.uint8], shape: tuple[int, ...], name: str) -> None:
    """Refuse what is not uint8 (h, w, 3) of the first frame's shape.

    Raises:
        FashionFlowError: the line begins with `name`.
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

    Used as a context manager: frames go into a hidden folder beside `path`; leaving without an exception flushes them
    to the disk and renames that folder onto `path`; any exception, KeyboardInterrupt included, removes it, and what was
    at `path` stays as it was. A folder that is replaced is one that held nothing but such frames.

        with FrameFolder("frames", overwrite=False) as folder:
            for frame in frames:  # uint8 (h, w, 3)
                folder.add(frame)
    """

    def __init__(self, path: str | Path, overwrite: bool = False, mark: bool = False) -> None:
        """`path` is the folder to make; an empty one may be there already, a filled one only with `overwrite`.

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
        """Refuse, before any work, a folder that will not be written; returns the path.

        Raises:
            FashionFlowError: the parent is missing or not writable; `path` is a file; it is a folder that holds
                frames, and `overwrite` is false; or it holds anything else, which is never deleted.
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
        # Counted as a user's own file: a folder named like a frame, and a link, whatever it leads to.
        others = sorted(e.name for e in os.scandir(path) if not _is_frame(e))
        if others:
            raise FashionFlowError(
                f"{path}: holds more than frames, such as {others[0]}", hint="choose a new folder; this one stays"
            )
        if not overwrite and any(path.iterdir()):
            raise FashionFlowError(
                f"{path}: already holds frames", hint=f"pass {option('overwrite', True)}, or choose another folder"
            )
        return path

    def __enter__(self) -> Self:
        target = self.path.resolve()
        self._temporary = temporary_folder(target)
        return self

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Write one frame, uint8 (h, w, 3), RGB 0 to 255, of the same size as those before it.

        Raises:
            FashionFlowError: another kind or size of frame, or the disk is full.
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
        self.check(self.path, self._overwrite)  # once more: generating takes time, in which files may have come
        target = self.path.resolve()
        if not target.exists():
            temporary.rename(target)
        else:
            _replace(temporary, target)
        sync(target.parent)

    def _unwritten(self, error: OSError) -> FashionFlowError:
        return FashionFlowError(
            f"{self.path}: could not be written ({error.strerror or error})", hint="check the disk, then try again"
        )


def _is_frame(entry: "os.DirEntry[str]") -> bool:
    return _FRAME_NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def _replace(temporary: Path, target: Path) -> None:
    """Put a folder in the place of another one of frames, which comes back if that fails."""
    # Side by side under these names, so that a crash between the two renames loses nothing: see `temporary.sweep`.
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
        with suppress(OSError):  # anything that is not ours and slipped in meanwhile
            replaced.rename(aside / KEPT)
        with suppress(OSError):
            aside.rmdir()
