"""`fashionflow generate` for many photos."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_cli.console import note, one_line, result, result_json
from fashionflow_cli.models import found
from fashionflow_cli.videos import requirement_rows
from fashionflow_core.config import VIDEO_SUFFIXES
from fashionflow_core.errors import PartialError, UsageError

if TYPE_CHECKING:
    from fashionflow_core.catalogue.inputs import Inputs
    from fashionflow_core.catalogue.ledger import Summary, Watcher
    from fashionflow_core.catalogue.planner import Decision
    from fashionflow_core.catalogue.quality_gate import QualityLimits
    from fashionflow_core.catalogue.run import Request


# Names of a manifest's stages in the summary.
_STAGES = {
    "plan": "settings",
    "photo": "opening the photo",
    "denoise": "generating",
    "decode": "decoding",
    "write": "writing",
    "worker": "worker process",
}


def wanted(photos: list[Path], out: Path | None) -> bool:
    """Whether this is a catalogue: several photos, a folder, pattern or list, or an output that is a folder."""
    from fashionflow_core.catalogue import storage
    from fashionflow_core.catalogue.inputs import is_many

    if len(photos) > 1 or any(is_many(storage.as_given(photo)) for photo in photos):
        return True
    return out is not None and (out.is_dir() or out.suffix == "")


def folder_of(out: Path | None) -> str:
    """The output folder.

    Raises:
        UsageError: `out` is missing, or names one video.
    """
    if out is None:
        raise UsageError("--out: several photos need a folder for their videos", hint="such as: -o videos/")
    if out.suffix.lower() in VIDEO_SUFFIXES and not out.is_dir():
        raise UsageError(f"--out: {out} is one video, but there are several photos", hint="name a folder: -o videos/")
    return str(out)


def limits_of(gate: bool, text: str | None, reroll: int) -> "QualityLimits | None":
    """Limits beyond which videos are flagged; None: no flags.

    Raises:
        UsageError: as `QualityLimits.parse`.
    """
    from fashionflow_core.catalogue.quality_gate import QualityLimits

    return QualityLimits.parse(text or "") if gate or text is not None or reroll else None


def generate(photos: list[Path], request: "Request", dry_run: bool, quiet: bool, as_json: bool) -> None:
    """Make the videos of a catalogue.

    Args:
        photos: as given by the user.
        request: the run without its entries; model and output folder as given by the user.

    Raises:
        PartialError: some items failed.
        FashionFlowError: the run cannot start or continue.
    """
    from fashionflow_core import video
    from fashionflow_core.catalogue import run, storage
    from fashionflow_core.catalogue.inputs import read_inputs
    from fashionflow_core.generators.config import GeneratorConfig
    from fashionflow_core.generators.folder import config_of
    from fashionflow_core.video.captions import columns_of

    work, out = request.work, Path(request.work.out)
    if work.settings.fps is not None and not work.settings.fps <= video.MAX_FPS:
        raise UsageError(f"--fps: must be above 0 and at most {video.MAX_FPS}, not {work.settings.fps}")
    for name in work.files("NAME"):
        video.check_options(out / name, work.finish.encode(work.encode, name))
    if request.ray_address is not None and request.executor != run.RAY:
        raise UsageError("--ray-address: requires --executor ray", hint="add --executor ray")
    url = storage.as_given(out) if storage.is_url(storage.as_given(out)) else ""
    place = storage.mirror(url) if url else out
    columns = columns_of(work.finish.caption)
    inputs: Inputs = read_inputs([storage.as_given(photo) for photo in photos], out, _stdin, columns)
    for line in inputs.skipped.lines():
        note(line, quiet)
    for line in inputs.skipped.unreadable:
        note(f"failed: {line}")
    if inputs.twice:
        note(f"skipped {inputs.twice} duplicates", quiet)
    model = found(work.model, quiet)
    config = config_of(model)
    settings = work.finish.adapted(work.settings, config)
    work.finish.check_length(settings.resolve(config))
    work = replace(work, model=str(model), settings=settings, out=str(place), remote=url.rstrip("/"))
    if work.batch > 1 and isinstance(config, GeneratorConfig) and not config.takes_lists:
        note(f"--batch: {config.name} ({config.family}) takes one photo at a time", quiet)
    request = replace(request, entries=inputs.entries, work=work)
    if dry_run:
        _print_estimate(request, as_json)
    else:
        summary = _watched(request, len(inputs.entries) * request.variations, quiet, as_json)
        _report(summary, url.rstrip("/") or str(out), quiet)
    if unreadable := len(inputs.skipped.unreadable):
        raise PartialError(
            f"{unreadable} folders of photos cannot be read" if unreadable > 1 else inputs.skipped.unreadable[0],
            hint="check their permissions, then run the same command again",
        )


def devices_of(text: str, here: bool = True) -> tuple[str, ...]:
    """`cuda:0,cuda:1` → one worker each; `all`: every GPU of this machine, or Ray's choice."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"--devices: {text!r} is not NAME,NAME,...", hint="such as cuda:0,cuda:1 or cpu,cpu")
    if names != ("all",) or not here:
        return names
    import torch

    if not torch.cuda.device_count():
        raise UsageError("--devices: all asked for, but this torch sees no GPU", hint="use --devices cpu,cpu")
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _print_estimate(request: "Request", as_json: bool) -> None:
    """The plan of `--dry-run` for many photos."""
    from fashionflow_core.catalogue.estimate import estimate

    plan = estimate(request)
    if as_json:
        described = asdict(plan)
        if plan.requirements is None:
            del described["requirements"]
        result_json(described)
        return
    size = f", about {plan.bytes_each * plan.to_do / 1e6:,.0f} MB" if plan.bytes_each else ""
    rows = {
        "items": f"{plan.items:,}",
        "to do": f"{plan.to_do:,}{size}",
        "done before": f"{plan.done:,}",
        "failed before": f"{plan.failed:,}",
        "folder": request.work.remote or request.work.out,
        "model": f"{plan.model} on {', '.join(plan.devices)}, {plan.frames} frames per video",
    }
    if plan.seconds is not None and plan.seconds_each is not None:
        rows["time"] = f"{_duration(plan.seconds)}: {plan.seconds_each:.2f} s per video, estimated from {plan.measured}"
    elif plan.to_do:
        rows["time"] = "not estimated: generate a few videos first, then --dry-run estimates from them"
    if plan.requirements is not None:
        rows["time"] = "not estimated: generate a few videos first, then --dry-run estimates from them"
        rows |= requirement_rows(plan.requirements)
    for name, value in rows.items():
        result(f"{name:14}  {value}")
    for line in plan.notes:
        result(f"{'note':14}  {line}")


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:,} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _stdin() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise UsageError(
            "<stdin>: no list is piped in", hint="find photos -name '*.jpg' | fashionflow generate - -o out/"
        )
    return stream.read()


def _watched(request: "Request", total: int, quiet: bool, as_json: bool) -> "Summary":
    """Run with a bar on stderr and a line on stdout for every video."""
    from tqdm import tqdm

    from fashionflow_core.catalogue import run

    out = request.work.remote or request.work.out
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, desc="videos", unit=" video", file=sys.stderr, disable=quiet, mininterval=interval) as bar:

        def say(line: str) -> None:
            if not quiet:
                tqdm.write(one_line(line), file=sys.stderr)

        def recorded(record: Mapping[str, Any]) -> None:
            for line in record.get("warnings", ()) if record["status"] == "done" and not record.get("judged") else ():
                source = str(record["source"])
                say(f"warning: {line if line.startswith(source) else f'{source}: {line}'}")
            if record["status"] == "done" and record.get("judged") and not as_json:
                pass  # an earlier run made it
            elif record["status"] == "done":
                with tqdm.external_write_mode(file=sys.stdout):
                    result_json(dict(record)) if as_json else result(f"{out}/{record['output']}")
            elif record["status"] != "retried":
                say(f"failed: {record['item']}: {record['message']}")
                if as_json:
                    result_json(dict(record))
            if record["status"] != "retried":
                bar.update()

        def skipped(_decision: "Decision") -> None:
            bar.update()

        watcher: Watcher = run.Watcher(
            recorded=recorded,
            skipped=skipped,
            said=say,
            warned=lambda line: say(f"warning: {line}"),
        )
        return run.run(request, watcher)


def _report(summary: "Summary", out: str, quiet: bool) -> None:
    """The table at the end, and exit code 3 if something failed."""
    note(f"{'videos made':15} {summary.made}", quiet)
    if summary.kept:
        note(f"{'already done':15} {summary.kept}", quiet)
    if summary.flagged:
        note(f"{'flagged':15} {summary.flagged:<6} see {out + '/index.html'}", quiet)
    bad = summary.failed + summary.lost
    if not bad:
        return
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for record in summary.failures.values():
        stages.setdefault(str(record["stage"]), []).append(record)
    for stage, records in stages.items():
        such = one_line(f"{_STAGES.get(stage, stage)}, such as {records[0]['item']}: {records[0]['message']}")
        note(f"{'failed':15} {len(records):<6} {such}", quiet)
    if old := bad - len(summary.failures):
        note(f"{'failed before':15} {old:<6} retry with --retry failed", quiet)
    raise PartialError(
        f"{bad} of {summary.total} items failed: see {out + '/manifest.jsonl'}",
        hint="fix the photos and run the same command again, or pass --retry failed",
    )
