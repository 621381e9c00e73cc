"""Preparation of videos as motion clips: motion channels fitted to filmed figures.

A folder of motion clips has the format of drawn ones (`synthetic.motion_clips`); `fits.jsonl` lists every window with
its result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fashionflow_core.dataset.cache import INDEX_FILE
from fashionflow_core.dataset.clips import VideoFile, measure, steady_frames
from fashionflow_core.dataset.prepare import LeftOut
from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.fitting.motion_fit import LEAST_KEYS, PURPOSE, STEPS, FittedMotion, fit_motion
from fashionflow_core.lock.flow import opencv
from fashionflow_core.models.parser import FigureParser, parse_photo
from fashionflow_core.motion.matte import Parse
from fashionflow_core.motion.timing import SPACING
from fashionflow_core.runtimes.torch import open_network
from fashionflow_core.store.folder import PARSER
from fashionflow_core.synthetic.motion_clips import KEYS, MotionClip, cut_clip, write_motion_clip
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.locks import locked

FITS_FILE = "fits.jsonl"
_VERSION = 1  # of the fit: results of other versions are fitted again


@dataclass(frozen=True)
class MotionWindow:
    """A window of a video: first frame, and the frames to fit (`frames[0]` is the photo)."""

    start: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class FitRecord:
    """Result of a window, one line of `fits.jsonl`.

    Attributes:
        source, sha256, start: name and hash of the video, first frame of the window.
        file: name of the motion clip; empty if left out.
        keys: fitted keyframes, `SPACING` apart.
        turn: largest turn of the trunk from the first frame, in degrees.
        residual: mean residual in figure heights.
        uncertainty: standard deviation of a turn in degrees that the texture of the first frame leaves.
        reason: reason why the clip is left out or ends early; empty if neither.
        version: version of the fit.
    """

    source: str
    sha256: str
    start: int
    file: str
    keys: int
    turn: float
    residual: float
    uncertainty: float
    reason: str
    version: int = _VERSION


@dataclass(frozen=True)
class MotionPrepared:
    """Result of a run: clips `fitted` now, `kept` from before, in total (`clips`); all records; unusable videos."""

    fitted: int
    kept: int
    clips: int
    records: list[FitRecord]
    left_out: list[LeftOut]


def windows_of(frames: int, fps: float, count: int) -> list[MotionWindow]:
    """Windows of a video, evenly spaced; each has at most `KEYS` keyframes.

    Args:
        frames: number of frames.
        fps: frames per second.
        count: number of windows; fewer if the video is too short for them.
    """
    step = SPACING / STEPS * fps
    made = []
    for start in dict.fromkeys(round(number * frames / count) for number in range(count)):
        places = start + np.rint(np.arange((KEYS - 1) * STEPS + 1) * step).astype(int)
        places = places[places < frames]
        if (len(places) - 1) // STEPS + 1 >= LEAST_KEYS:
            made.append(MotionWindow(start, tuple(places.tolist())))
    return made


def prepare_motion(
    videos: dict[str, Path],
    folder: Path,
    model: Path,
    clips_per_video: int = 1,
    overwrite: bool = False,
    on_video: Callable[[int], None] = lambda done: None,
) -> MotionPrepared:
    """Fit motion clips to videos, and write those that fit.

    Args:
        videos: result of `clips.named_videos`.
        folder: folder of the motion clips, created if missing.
        model: model folder with a parser.
        clips_per_video: windows per video.
        overwrite: fit windows again that are done.
        on_video: called with the number of finished videos.

    Raises:
        FashionFlowError: the extra `lock` is not installed; the folder is a cache of encoded clips; no parser.
    """
    opencv(PURPOSE, "")
    if (folder / INDEX_FILE).exists():
        raise FashionFlowError(
            f"{folder}: contains a cache of encoded clips", hint=f"name another folder with {option('out')}"
        )
    network = open_network(FigureParser, model, PARSER, torch.float32).eval()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, command("data prepare")):
        run = _FitRun(folder, lambda photo: parse_photo(network, photo), overwrite)
        for done, (name, path) in enumerate(videos.items(), start=1):
            run.add(name, path, clips_per_video)
            on_video(done)
        clips = sum(bool(record.file) for record in run.records.values())
        return MotionPrepared(run.fitted, run.kept, clips, list(run.records.values()), run.left_out)


class _FitRun:
    def __init__(self, folder: Path, parse: Parse, overwrite: bool) -> None:
        self.folder, self.parse = folder, parse
        self.records = _read(folder)
        if overwrite:
            for record in self.records.values():
                if record.file:
                    (folder / record.file).unlink(missing_ok=True)
            self.records = {}
        self.fitted = self.kept = 0
        self.left_out: list[LeftOut] = []

    def add(self, name: str, path: Path, count: int) -> None:
        try:
            source = measure(path, name)
            windows = windows_of(source.frames, source.fps, count)
            if not windows:
                needed = (LEAST_KEYS - 1) * SPACING
                raise FashionFlowError(
                    f"{path}: shorter than {needed:.2f} s, the shortest motion clip", hint="omit it, or film longer"
                )
            for window in windows:
                self._window(source, window)
        except FashionFlowError as error:
            self.left_out.append(LeftOut(name, error.message))
        except Exception as error:  # a damaged file must not stop the others
            reason = " ".join(str(error).split()) or type(error).__name__
            self.left_out.append(LeftOut(name, f"{path}: unreadable ({reason})"))

    def _window(self, source: VideoFile, window: MotionWindow) -> None:
        key = (source.sha256, window.start)
        record = self.records.get(key)
        if record is None or (record.file and not (self.folder / record.file).is_file()):
            record = self.records[key] = self._fitted(source, window)
            lines = (json.dumps(asdict(one), ensure_ascii=False) for one in self.records.values())
            write_text(self.folder / FITS_FILE, "\n".join(lines) + "\n")
            self.fitted += bool(record.file)
        else:
            self.kept += bool(record.file)
        if not record.file:
            self.left_out.append(LeftOut(source.name, f"{source.path}, frame {window.start} on: {record.reason}"))

    def _fitted(self, source: VideoFile, window: MotionWindow) -> FitRecord:
        photos: list[np.ndarray] = []
        motion = fit_motion(_noting(_taken(source, window.frames), photos), self.parse)
        record = FitRecord(
            source=source.name,
            sha256=source.sha256,
            start=window.start,
            file="" if motion.refusal else f"{source.sha256[:16]}-{window.start:06}.safetensors",
            keys=len(motion.turns),
            turn=round(float(np.abs(motion.turns).max()), 2),
            residual=round(motion.residual, 5),
            uncertainty=round(motion.uncertainty, 2),
            reason=motion.refusal or motion.ended,
        )
        if record.file:
            write_motion_clip(clip_of(motion, photos[0], record), self.folder / record.file)
        return record


def clip_of(motion: FittedMotion, photo: np.ndarray, record: FitRecord) -> MotionClip:
    """The motion clip of a fit, with `KEYS` keyframes: those that are not fitted repeat the last one.

    Args:
        motion: result of `fit_motion`.
        photo: frame 0, uint8 (h, w, 3).
        record: its record, which the clip contains.
    """
    keys = motion.channels.shape[1]
    channels = np.concatenate([motion.channels, np.repeat(motion.channels[:, -1:], KEYS - keys, axis=1)], axis=1)
    parts = motion.matte.parts
    labels = np.zeros(motion.matte.alpha.shape, np.uint8) if parts is None else parts
    attributes = {"style": "video"} | {
        name: getattr(record, name) for name in ("source", "sha256", "start", "turn", "residual", "uncertainty")
    }
    info = {"source": record.source, "loop": False, "keys": keys, "attributes": attributes}
    return cut_clip(channels, motion.cover, photo, motion.matte.alpha, labels, motion.inflation, motion.box, info)


def _taken(source: VideoFile, places: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of a video at ascending, possibly repeated places."""
    wanted = iter(places)
    place = next(wanted, None)
    for number, frame in enumerate(steady_frames(source)):
        while place == number:
            yield frame
            place = next(wanted, None)
        if place is None:
            return


def _noting(frames: Iterator[np.ndarray], first: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames; the first one is also appended to a list."""
    for frame in frames:
        if not first:
            first.append(frame)
        yield frame


def _read(folder: Path) -> dict[tuple[str, int], FitRecord]:
    path = folder / FITS_FILE
    if not path.is_file():
        return {}
    try:
        records = [FitRecord(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError):
        raise FashionFlowError(f"{path}: damaged", hint="delete it; all videos are then fitted again") from None
    return {(record.sha256, record.start): record for record in records if record.version == _VERSION}
