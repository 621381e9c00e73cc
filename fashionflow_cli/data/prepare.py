"""`fashionflow data prepare`."""

import re
import time
import warnings
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashionflow_cli import options
from fashionflow_cli.config_file import refuse_flags
from fashionflow_cli.console import Warnings, note, progress, quiet_libraries, result, result_json
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, PartialError

if TYPE_CHECKING:
    from fashionflow_core.dataset.cache import Recipe
    from fashionflow_core.dataset.prepare import CachePlan, LeftOut

CLIPS = "Clips"
# Options of encoded clips, which motion clips have no use for.
ENCODED_ONLY = ("frames", "strides", "seed", "dtype", "device", "workers", "shard-mb", "dry-run")
EXAMPLES = """[bold]Examples[/bold]

fashionflow data prepare videos -o cache --clips-per-video 4

fashionflow data prepare fashion/train fashion/test -o cache --model published --device cuda --workers 8

fashionflow data prepare videos -o cache --dry-run

fashionflow data prepare videos -o motion --model mini --clips-per-video 3
"""


def parse_strides(text: str | tuple[int, ...]) -> tuple[int, ...]:
    """`1,2,4` → (1, 2, 4), for typer's `parser=`, which is also given the default."""
    if isinstance(text, tuple):
        return text
    if not re.fullmatch(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", text):
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers above 0, such as 1,2,4")
    return tuple(sorted({int(number) for number in text.split(",")}))


def prepare(
    ctx: typer.Context,
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEOS",
            help="Folders, searched recursively, or video files. Folders named train, test and so on become splits.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        options.option(
            CLIPS, "out", "-o", text="Folder of the cache or the motion clips, created if missing.", show_default=False
        ),
    ],
    frames: Annotated[
        int | None,
        options.option(CLIPS, "frames", text="Frames per clip.", default="the model's", min=1, max=100_000),
    ] = None,
    strides: Annotated[
        Any,
        options.option(
            CLIPS,
            "strides",
            text="Use every n-th frame of a video; the values alternate.",
            parser=parse_strides,
            metavar="N,N,...",
            show_default="1,2,4",
        ),
    ] = (1, 2, 4),
    clips_per_video: Annotated[
        int, options.option(CLIPS, "clips-per-video", text="Different clips per video.", min=1)
    ] = 1,
    seed: Annotated[
        int,
        options.option(
            CLIPS, "seed", text="The same seed selects the same clips.", min=0, max=2**63 - 1, metavar="<int>"
        ),
    ] = 0,
    limit: Annotated[
        int | None, options.option(CLIPS, "limit", text="Use only the first N videos.", min=1, metavar="<int>")
    ] = None,
    overwrite: Annotated[
        bool, options.option(CLIPS, "overwrite", text="Delete the content of the cache and start again.")
    ] = False,
    model: options.Model = "mini-latent",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    workers: Annotated[
        int,
        options.option(options.MACHINE, "workers", "-j", text="Videos decoded in parallel.", min=1, max=256),
    ] = 2,
    shard_mb: Annotated[
        float, options.option(options.MACHINE, "shard-mb", text="Approximate size of a shard in MB.", min=0.001)
    ] = 256,
    config: options.Config = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Encode clips of videos for training: latents of the model's VAE, first frames, and CLIP features.

    For a motion model (such as mini) fit motion clips to the videos instead (extra lock).

    An interrupted run resumes; new and changed videos are added; unusable videos are listed.
    """
    start, warned = time.perf_counter(), ctx.ensure_object(Warnings)
    quiet_libraries()
    from fashionflow_core.dataset.clips import named_videos
    from fashionflow_core.store import registry

    folder = registry.find(model)
    unreadable: list[str] = []
    named = dict(islice(named_videos(videos, unreadable).items(), limit))
    where = ", ".join(map(str, videos))
    if not named:
        why = "".join(f"; {line}" for line in unreadable)
        raise FashionFlowError(
            f"{where}: no videos found{why}", hint="name a folder that contains .mp4 or other video files"
        )

    from fashionflow_core.config import ModelConfig

    if ModelConfig.load(folder).latents == "motion":
        refuse_flags(ctx, ENCODED_ONLY, "not for motion models", "omit --{name}")
        _prepare_motion(named, unreadable, out, folder, clips_per_video, overwrite, quiet, as_json, start, warned)
        return

    from fashionflow_core.dataset import cache, prepare
    from fashionflow_core.dataset.cache_writer import check_folder
    from fashionflow_core.utils.device import resolve_device

    chosen = resolve_device(device)
    recipe = cache.Recipe.of(folder, chosen, dtype, frames, strides, clips_per_video, seed)
    check_folder(out, recipe, overwrite)
    with progress("reading", len(named), "video", quiet) as looked_at:
        plan = prepare.make_plan(named, recipe, workers, looked_at)
    plan.left_out[:0] = [prepare.LeftOut("", line) for line in unreadable]
    for remark in plan.remarks:
        warnings.warn(remark, FashionFlowWarning, stacklevel=1)
    if dry_run or not plan.clips:
        _name_left_out(plan.left_out)
    if not plan.clips:
        raise FashionFlowError(
            f"{where}: none of the {len(named)} videos can be used", hint="see the lines above, and --frames"
        )
    if dry_run:
        _print_plan(plan, prepare.estimate(plan, out, folder, recipe, overwrite), recipe, warned, as_json)
        _finish(plan.left_out, len(named))
        return
    with progress("encoding", plan.count, "clip", quiet) as encoded:
        made = prepare.prepare(plan, out, folder, recipe, chosen, workers, overwrite, round(shard_mb * 1e6), encoded)
    _name_left_out(made.left_out)
    seconds = round(time.perf_counter() - start, 3)
    note(f"{made.encoded} clips encoded, {made.kept} kept, {made.clips} in all, in {seconds} s", quiet)
    if not made.encoded + made.kept:
        raise FashionFlowError(f"{where}: none of the {len(named)} videos can be used", hint="see the lines above")
    if as_json:
        summary = {"folder": str(out), "videos": len(named), **asdict(made), "seconds": seconds}
        result_json(summary | {"warnings": warned.take()})
    else:
        result(str(out))
    _finish(made.left_out, len(named))


def _prepare_motion(
    named: dict[str, Path],
    unreadable: list[str],
    out: Path,
    folder: Path,
    clips_per_video: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    start: float,
    warned: Warnings,
) -> None:
    """Fit motion clips to the videos."""
    from fashionflow_core.dataset.prepare import LeftOut
    from fashionflow_core.fitting.motion_prepare import prepare_motion

    with progress("fitting", len(named), "video", quiet) as fitted:
        made = prepare_motion(named, out, folder, clips_per_video, overwrite, fitted)
    left_out = [LeftOut("", line) for line in unreadable] + made.left_out
    _name_left_out(left_out)
    seconds = round(time.perf_counter() - start, 3)
    for record in made.records if not as_json else []:
        if record.file:
            ends = f"; {record.reason}" if record.reason else ""
            note(
                f"{record.source}, frame {record.start} on: {record.keys} keyframes, turn {record.turn:.0f} degrees, "
                f"residual {100 * record.residual:.2f} %{ends}",
                quiet,
            )
    note(f"{made.fitted} clips fitted, {made.kept} kept, {made.clips} in all, in {seconds} s", quiet)
    if not made.fitted + made.kept:
        raise FashionFlowError(
            f"{', '.join(named)}: none of the {len(named)} videos can be used", hint="see the lines above"
        )
    if as_json:
        summary = {"folder": str(out), "videos": len(named), **asdict(made), "left_out": [asdict(x) for x in left_out]}
        result_json(summary | {"seconds": seconds, "warnings": warned.take()})
    else:
        result(str(out))
    _finish(left_out, len(named))


def _name_left_out(left_out: "list[LeftOut]") -> None:
    for entry in left_out:
        note(f"left out: {entry.reason}")


def _finish(left_out: "list[LeftOut]", videos: int) -> None:
    parts = []
    if count := len({entry.source for entry in left_out if entry.source}):
        parts.append(f"{count} of {videos} videos could not be used, or not to the end")
    if folders := sum(not entry.source for entry in left_out):
        parts.append(f"folders that cannot be read: {folders}")
    if parts:
        raise PartialError("; ".join(parts), hint="see the lines above; the clips of the others are done")


def _print_plan(plan: "CachePlan", estimate: dict[str, Any], recipe: "Recipe", warned: Warnings, as_json: bool) -> None:
    """Print the plan: videos, clips and their size."""
    described: dict[str, Any] = {
        "videos": len(plan.clips),
        "left_out": [asdict(entry) for entry in plan.left_out],
        "clips": plan.count,
        **estimate,
        **recipe.settings(),
    }
    if as_json:
        files = [
            {"source": source.name, "clips": [asdict(window) for window in windows]} for source, windows in plan.clips
        ]
        result_json(described | {"sources": files, "warnings": warned.take()})
        return
    described["left_out"] = len(plan.left_out)
    width = max(map(len, described))
    for name, value in described.items():
        result(f"{name:{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
