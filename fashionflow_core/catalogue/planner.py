"""Planning and resuming of a run, by manifest and output folder: which items are generated, and which are kept."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.inputs import Entry
from fashionflow_core.catalogue.jobs import DONE, FAILED, Job, RunSpec, failure, settings_hash
from fashionflow_core.catalogue.manifest import MANIFEST, State, record_at
from fashionflow_core.catalogue.naming import Item, inside, plan_items
from fashionflow_core.catalogue.quality_gate import flags, reroll_seed
from fashionflow_core.catalogue.reviews import REJECTED, Review
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, SettingError, UsageError
from fashionflow_core.generators.families import CAPTION
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.video.captions import filled

_REJECTED = 1_000_000  # seeds after a rejection are numbered from here; those of the quality gate from 1


@dataclass(frozen=True)
class Rules:
    """Which finished or failed items are made again.

    Attributes:
        retry_failed: items that failed or were lost before, although nothing changed.
        retry_rejected: videos that a review rejected, with a new seed.
        overwrite: all items; files that no catalogue made may be replaced.
        keep_other_models: keep videos of another model, or of the same one with other weights: for runs without an
            explicit model, so that a new default remakes nothing.
    """

    retry_failed: bool = False
    retry_rejected: bool = False
    overwrite: bool = False
    keep_other_models: bool = False


@dataclass(frozen=True)
class Decision:
    """Decision about one item: a job, or why there is none.

    Attributes:
        item: the item.
        job: what to do; None: nothing.
        status: of an item without a job: done or failed.
        record: a new manifest line, for an item that cannot be tried or whose flags changed.
        flagged: the gate flags the finished video.
    """

    item: Item
    job: Job | None = None
    status: str = DONE
    record: Mapping[str, Any] | None = None
    flagged: bool = False


@dataclass
class Planner:
    """Decides about every item of a run.

    Args:
        entries, variations: of the run.
        work: settings of the run.
        config: of the model.
        revision: of the model's files.
        states: of the manifest.
        known: `manifest.names_by_source(states)`.
        reviews: of the output folder, if rejected videos are made again.
    """

    entries: Sequence[Entry]
    variations: int
    work: RunSpec
    config: ModelConfig
    revision: str
    states: Mapping[str, State]
    known: Mapping[str, Sequence[str]]
    rules: Rules = field(default_factory=Rules)
    reviews: Mapping[str, Review] = field(default_factory=dict)
    _hashes: dict[tuple[object, ...], str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries) * self.variations

    def decide(self) -> Iterator[Decision]:
        """Every item, in order."""
        for number, item in enumerate(plan_items(self.entries, self.variations, self.known)):
            yield self._decide(number, item)

    def _decide(self, number: int, item: Item) -> Decision:
        before = self.states.get(item.name)
        try:
            if item.problem:
                raise UsageError(item.problem)
            label = self._label(item)
            settings, mark = self._settings(item, label)
        except FashionFlowError as error:
            if before and before.status == FAILED and not before.made_of.strip() and not self.rules.retry_failed:
                return Decision(item, status=FAILED)
            record = {"item": item.name, "source": item.source, "status": FAILED, **failure("plan", error)}
            return Decision(item, status=FAILED, record=record)
        if before is not None and (rejections := self._rejections(item, before)):
            job = self._job(number, item, settings, mark, label, before)
            seed = reroll_seed(
                settings.seed, _REJECTED + rejections
            )  # the hash is unchanged, so the next run keeps this video
            return Decision(item, replace(job, settings=replace(settings, seed=seed), replace=True, redo=True))
        if before is not None and not self.rules.overwrite and before.made_of == f"{mark} {self.revision}":
            if before.status == DONE:
                if self._is_whole(item, before) and self._is_unchanged(item, before):
                    return self._judged(item, before, self._job(number, item, settings, mark, label, before))
            elif not self.rules.retry_failed and self._is_unchanged(item, before):
                return Decision(item, status=before.status)
        if before is not None and self._is_kept(item, before):
            return self._judged(item, before, None)
        return Decision(item, self._job(number, item, settings, mark, label, before))

    def _rejections(self, item: Item, before: State) -> int:
        """Number of rejected videos of an item if its current one was rejected; 0: it is kept."""
        review = self.reviews.get(item.name)
        if not self.rules.retry_rejected or review is None or before.status != DONE:
            return 0
        with (Path(self.work.out) / MANIFEST).open("rb") as manifest:
            seed = int(record_at(manifest, before.start).get("seed", -1))
        return review.rejections if review.of(seed) == REJECTED else 0

    def _label(self, item: Item) -> str:
        """The caption of an item's video."""
        template = self.work.finish.caption
        if not template:
            return ""
        name = item.name.rpartition("/")[2]
        own = {"caption": item.caption} if item.caption else {}
        return filled(template, {"name": name, "photo": os.path.basename(item.source), **own, **(item.columns or {})})

    def _job(
        self, number: int, item: Item, settings: GenerateSettings, mark: str, label: str, before: State | None
    ) -> Job:
        return Job(
            number,
            item.name,
            item.source,
            settings,
            item.variation,
            mark,
            self.revision,
            # A damaged video no longer has the metadata by which it would be recognised.
            replace=self.rules.overwrite or (before is not None and before.status == DONE),
            redo=self.rules.overwrite,
            caption=item.caption,
            label=label,
        )

    def _judged(self, item: Item, before: State, job: Job | None) -> Decision:
        """Apply the gate to a finished video; a flagged one is made again if the run rerolls.

        Args:
            job: for making it again; None: it is kept.
        """
        limits = self.work.gate
        if limits is None:
            return Decision(item)
        with (Path(self.work.out) / MANIFEST).open("rb") as manifest:
            record = record_at(manifest, before.start)
        scores, known = record.get("scores"), list(record.get("flags") or ())
        if not scores:
            return Decision(item, replace(job, judge=True) if job else None, flagged=bool(known))
        found = flags(scores, limits)
        takes = record.get("takes") or [{"seed": record.get("seed"), "scores": scores, "flags": known}]
        tried = len(takes) - 1
        if found and job is not None and tried < self.work.reroll:
            settings = replace(job.settings, seed=reroll_seed(job.settings.seed, tried + 1))
            earlier = tuple({**take, "kept": take["seed"] == record.get("seed")} for take in takes)
            return Decision(item, replace(job, settings=settings, reroll=tried + 1, earlier=earlier))
        if found == known:
            return Decision(item, flagged=bool(found))
        return Decision(item, record=record | {"flags": found, "judged": True}, flagged=bool(found))

    def _is_kept(self, item: Item, before: State) -> bool:
        """Whether a finished video of another model is kept."""
        if before.status != DONE or not self.rules.keep_other_models or self.rules.overwrite:
            return False
        return self.is_of_another_model(before) and self._is_whole(item, before) and self._is_unchanged(item, before)

    def is_of_another_model(self, state: State) -> bool:
        """Whether a finished video was made with other weights than this run's."""
        return state.status == DONE and state.made_of.rpartition(" ")[2] != self.revision

    def others(self) -> Counter[str]:
        """Number of finished videos made with other weights, by name of the model."""
        return Counter(state.model for state in self.states.values() if self.is_of_another_model(state))

    def _settings(self, item: Item, label: str) -> tuple[GenerateSettings, str]:
        """The request of an item and the hash of its resolved settings, which is cached."""
        settings = replace(self.work.settings, **item.settings) if item.settings else self.work.settings
        if CAPTION in (settings.prompt or ""):
            if not item.caption:
                raise SettingError(
                    "prompt",
                    f"{item.source} has no caption for {CAPTION}",
                    hint="add a column caption to the list, or leave the placeholder out",
                )
            settings = replace(settings, prompt=str(settings.prompt).replace(CAPTION, item.caption))
        work = (
            replace(self.work, finish=replace(self.work.finish, caption=label))
            if label != self.work.finish.caption
            else self.work
        )
        if self.config.latents != "appearance" and "seed" not in (item.settings or {}):
            # The same noise moves all figures nearly alike.
            settings = replace(settings, seed=item_seed(settings.seed, item.name))
            return settings, settings_hash(settings.resolve(self.config), work, item.variation)
        key = (tuple(sorted(item.settings.items())) if item.settings else (), item.variation, label)
        if key not in self._hashes:
            if len(self._hashes) > 100_000:  # a list with a seed for each of a million photos
                self._hashes.clear()
            self._hashes[key] = settings_hash(settings.resolve(self.config), work, item.variation)
        return settings, self._hashes[key]

    def _is_unchanged(self, item: Item, before: State) -> bool:
        """Whether the photo is the one that was read: same size and time, or same bytes."""
        if storage.is_url(item.source):
            return storage.identify(item.source)[1:] == before.stamp
        try:
            info = os.stat(item.source)
            if (info.st_size, info.st_mtime_ns) == before.stamp:
                return True
            return bool(before.input_hash) and sha256(Path(item.source)) == before.input_hash
        except (OSError, ValueError):
            return not before.input_hash  # it was unreadable before as well

    def _is_whole(self, item: Item, before: State) -> bool:
        """Whether the videos open and the first has all frames; on remote storage, whether it has its size."""
        from fashionflow_core import video

        if self.work.remote:
            remote = self.work.remote.rstrip("/")
            first, *others = (storage.size(f"{remote}/{name}") for name in self.work.files(item.name))
            return first == before.bytes and None not in others
        try:
            paths = [inside(Path(self.work.out), name) for name in self.work.files(item.name)]
            counts = [video.probe(path).frames if path is not None else 0 for path in paths]
            return counts[0] == before.frames and 0 not in counts
        except FashionFlowError:
            return False


def item_seed(seed: int, name: str) -> int:
    """Seed of an item without its own: the first 48 bits of SHA-256 of SEED:NAME."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()[:6])


def count(decisions: Iterator[Decision]) -> Counter[str]:
    """Number of items to do, done and failed."""
    return Counter("to do" if decision.job else decision.status for decision in decisions)
