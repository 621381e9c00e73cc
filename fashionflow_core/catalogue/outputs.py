"""Where finished videos go: into a folder of this machine, or to a file system of fsspec's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.names import inside
from fashionflow_core.catalogue.placing import is_ours
from fashionflow_core.catalogue.work import Job, Work
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import sync


class Outputs(Protocol):
    """An output folder; names are relative to it, with `/` between folders."""

    def check(self, job: Job, name: str) -> None:
        """Refuse a place outside of the folder, or one that holds what is not ours."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Move a whole file to its place, for good."""
        ...

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        """What is there already, as a file of this machine; None: nothing."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...


def outputs(work: Work) -> Outputs:
    """Of a run."""
    return Remote(work.remote, Path(work.scratch)) if work.remote else Local(Path(work.out))


class Local:
    """A folder of this machine."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def check(self, job: Job, name: str) -> None:
        path = inside(self.out, name)
        if path is None:
            raise FashionFlowError(
                f"{job.name}: a link inside {self.out} leads out of it",
                hint="remove that link, or choose another -o",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise FashionFlowError(f"{path}: is a folder", hint="move it away, or choose another -o")
        if not path.exists():
            return
        if os.path.exists(job.source) and path.samefile(job.source):
            raise FashionFlowError(f"{path}: is the photo itself", hint="choose another -o")
        if not job.replace and not is_ours(path):
            raise _not_ours(str(path))

    def put(self, file: Path, name: str) -> None:
        target = self.out / name
        file.replace(target)
        sync(target.parent)

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        path = inside(self.out, name)
        yield path if path is not None and path.is_file() else None

    def has(self, name: str) -> bool:
        return (self.out / name).is_file()


class Remote:
    """A folder on a file system of fsspec's; what is put there is whole or is not there."""

    def __init__(self, url: str, scratch: Path) -> None:
        self.url, self.scratch = url.rstrip("/"), scratch

    def check(self, job: Job, name: str) -> None:
        if job.replace:
            return
        with self.existing(name) as path:
            if path is not None and not is_ours(path):
                raise _not_ours(f"{self.url}/{name}")

    def put(self, file: Path, name: str) -> None:
        storage.put(file, f"{self.url}/{name}")
        file.unlink()

    @contextmanager
    def existing(self, name: str) -> Iterator[Path | None]:
        if not self.has(name):
            yield None
            return
        local = self.scratch / f"existing-{abs(hash(name))}{Path(name).suffix}"
        try:
            yield storage.fetch(f"{self.url}/{name}", local)
        finally:
            local.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        return storage.size(f"{self.url}/{name}") is not None


def _not_ours(place: str) -> FashionFlowError:
    return FashionFlowError(
        f"{place}: already exists, and this catalogue did not make it", hint="move it away, or pass --overwrite"
    )
