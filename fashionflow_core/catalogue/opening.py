"""A worker's photos: opened by its helper process, fetched first if they are somewhere else."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue import storage
from fashionflow_core.catalogue.helper import Helper, OpenedPhoto, PhotoRequest, identify
from fashionflow_core.catalogue.work import Job, Work
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError

if TYPE_CHECKING:
    from fashionflow_core.image import Fitted


class HelperDied(FashionFlowError):
    """A photo that ends the process which opens it."""


class Photos:
    """Opens photos, and scores videos against them; from any thread.

    Args:
        work: of the run.
        config: of the model.
        log: where the helper process writes.
    """

    def __init__(self, work: Work, config: ModelConfig, log: Path | None) -> None:
        self.work, self.config = work, config
        self.helper = Helper(log)
        self._asking = threading.Lock()

    def close(self) -> None:
        """End the helper process."""
        self.helper.close()

    def open(self, job: Job) -> OpenedPhoto:
        """Open a job's photo; never raises."""
        config = self.config
        request = PhotoRequest(
            job.source,
            config.height,
            config.width,
            job.settings.fit or config.fit,
            config.resample,
            self.work.background,
            self.work.max_megapixels,
        )
        try:
            if storage.is_url(job.source):
                return self._open_remote(request, job)
            return self._ask("photo", request)
        except EOFError:
            problem = HelperDied(f"{job.source}: ended the process that opened it", hint="is it a valid photo?")
            return OpenedPhoto(None, problem, *identify(job.source))

    def _open_remote(self, request: PhotoRequest, job: Job) -> OpenedPhoto:
        local = Path(self.work.scratch) / f"photo-{job.number}-{job.attempt}"
        _, size, changed = storage.identify(job.source)
        try:
            opened: OpenedPhoto = self._ask("photo", replace(request, path=str(storage.fetch(job.source, local))))
        except FashionFlowError as error:
            return OpenedPhoto(None, error, "", size, changed)
        finally:
            local.unlink(missing_ok=True)

        def named(text: str) -> str:
            return text.replace(str(local), job.source)

        error = opened.error
        if isinstance(error, FashionFlowError):
            error = FashionFlowError(named(error.message), error.hint)
        lines = [named(line) for line in opened.warnings]
        return replace(opened, error=error, bytes=size, mtime_ns=changed, warnings=lines)

    def _ask(self, kind: str, *arguments: Any) -> Any:
        """Of the helper, which takes one request at a time.

        Raises:
            EOFError: it died of this one.
        """
        with self._asking:
            return self.helper.ask(kind, *arguments)

    def scores(self, path: Path, fitted: "Fitted") -> dict[str, float]:
        """Scores of a video; none if it cannot be scored, which is no reason not to keep it."""
        box = fitted.box
        photo = fitted.pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        try:
            found = self._ask("score", str(path), photo)
        except EOFError:
            found = None
        return found if isinstance(found, dict) else {}
