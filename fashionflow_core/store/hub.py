"""Hugging Face hub downloads, checked by hash.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual meaning.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from fashionflow_core.errors import FashionFlowError, option
from fashionflow_core.store.registry import HubPart
from fashionflow_core.utils.download import OnBytes, check_room, explained, is_connection, persistent, status
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.network import check_network, check_token
from fashionflow_core.utils.paths import expanded

# Tensors, their descriptions, and licences: no pickles, no code. SentencePiece vocabularies are data; chat templates
# run in transformers' sandbox.
ALLOWED = ("*.safetensors", "*.json", "*.txt", "*.md", "LICENSE", "NOTICE", "spiece.model", "chat_template.jinja")

_LEAST_BAR = 1_000_000  # bytes


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: size in bytes; `sha256` of large files, else git's own hash `sha1` of small ones."""

    size: int
    sha256: str | None = None
    sha1: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit, complete and verified, in the hub's cache."""

    repo: str
    commit: str
    folder: Path
    files: Mapping[str, HubFile]

    def record(self) -> dict[str, Any]:
        """Content of `source.json`."""
        files = {
            name: {key: value for key, value in asdict(file).items() if value} for name, file in self.files.items()
        }
        return {"repo": self.repo, "commit": self.commit, "files": files}


def fetch(
    repo: str,
    revision: str | None = None,
    choose: Callable[[list[str]], list[str]] = list,
    progress: OnBytes | None = None,
) -> Snapshot:
    """Download files of a hub repository into the hub's cache and check them.

    Args:
        repo: `organisation/name`.
        revision: branch, tag or commit; the default branch if None.
        choose: function from the allowed paths in the repository to the wanted ones.
        progress: called for each piece of a file above a megabyte.

    Returns:
        The files; without a network, or with HF_HUB_OFFLINE=1, those in the cache.

    Raises:
        FashionFlowError: no such repository, no access, no network and not in the cache, a full disk, or a file
            whose size or hash differs.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    with _explained(repo, revision):
        listed = _listing(repo, revision)
        commit, offered = listed or _cached(repo, revision)
        files = {name: offered[name] for name in choose(sorted(filter(_allowed, offered)))}
        cache = expanded(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
        folder = cache / "snapshots" / commit
        blobs = {file: cache / "blobs" / (file.sha256 or file.sha1 or "") for file in files.values()}
        if listed:
            check_room(repo, sum(file.size for file, blob in blobs.items() if not blob.is_file()), cache)
        for name, file in files.items():
            for _ in range(2):  # a file that was damaged in the cache is downloaded again
                if listed:
                    # Not `snapshot_download`: on Ctrl-C it first waits for the files that its threads are fetching.
                    hf_hub_download(repo, name, revision=commit, tqdm_class=_bar(f"{repo}/{name}", file, progress))
                if _is_whole(folder / name, file):
                    break
                for path in ((folder / name).resolve(), folder / name):
                    path.unlink(missing_ok=True)
            else:
                raise FashionFlowError(
                    f"{repo}/{name}: size or hash differs from the hub's; the file was deleted",
                    hint="try again; if it recurs, check HF_ENDPOINT: a proxy or mirror changes files",
                )
        if listed and files:
            _note_revision(cache, revision or "main", commit)
            for blob in blobs.values():  # left by killed processes
                for piece in blob.parent.glob(f"{blob.name}.*.incomplete"):
                    piece.unlink(missing_ok=True)
    return Snapshot(repo, commit, folder, files)


def fetch_part(part: HubPart, folders: tuple[str, ...], progress: OnBytes | None = None) -> Snapshot:
    """One network: its configuration and weights, from the first of its commits and of `folders` ("." is the top).

    Returns:
        The snapshot, which contains that folder.

    Raises:
        FashionFlowError: as `fetch`; also if none of them contains safetensors.
    """

    def choose(names: list[str]) -> list[str]:
        for folder in folders:
            inside = [name for name in names if str(PurePosixPath(name).parent) == folder]
            # Files that `from_pretrained` opens, without half-precision variants.
            weights = [n for n in inside if re.search(r"(^|[/_])model(-\d+-of-\d+)?\.safetensors$", n)]
            if weights:
                return weights + [n for n in inside if re.search(r"(^|/)config\.json$|\.index\.json$", n)]
        return []

    failure = FashionFlowError(
        f"{part.repo}: holds no network as safetensors",
        hint="pickled weights are not opened; save that model as safetensors first",
    )
    for revision in part.revisions or (None,):
        try:
            snapshot = fetch(part.repo, revision, choose, progress)
        except FashionFlowError as error:
            failure = error  # offline, the cache may contain the next one
            continue
        if snapshot.files:
            return snapshot
    raise failure


def _allowed(name: str) -> bool:
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    return plain and any(fnmatchcase(path.name, pattern) for pattern in ALLOWED)


def _listing(repo: str, revision: str | None) -> tuple[str, dict[str, HubFile]] | None:
    """Commit of `revision` and its files; None if the hub is unreachable and the cache has them."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    # Without a timeout the client waits forever for a server that does not answer.
    options: Any = {"files_metadata": True, "timeout": constants.HF_HUB_ETAG_TIMEOUT}
    try:
        found = persistent(lambda: HfApi().model_info(repo, revision=revision, **options))
    except OfflineModeIsEnabled:
        return None
    except Exception as error:
        # The hub is down: use the cached commit of an earlier call.
        if (is_connection(error) or (status(error) or 0) >= 500) and _cached_folder(repo, revision):
            return None
        raise
    files = {}
    for file in found.siblings or []:
        lfs = file.lfs
        entry = HubFile(lfs.size, sha256=lfs.sha256) if lfs else HubFile(file.size or 0, sha1=file.blob_id)
        if not (entry.sha256 or entry.sha1):
            message = f"{repo}/{file.rfilename}: {constants.ENDPOINT} gives no hash for it"
            raise FashionFlowError(message, hint="check HF_ENDPOINT")
        files[file.rfilename] = entry
    return str(found.sha), files


def _cached_folder(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
    except LocalEntryNotFoundError:
        return None


def _cached(repo: str, revision: str | None) -> tuple[str, dict[str, HubFile]]:
    """Cached files of a repository, as `_listing`; hashes are the names of the linked blobs."""
    folder = _cached_folder(repo, revision)
    if folder is None:
        raise FashionFlowError(
            f"{repo}: not in the cache, and HF_HUB_OFFLINE forbids the network",
            hint="unset HF_HUB_OFFLINE to download it",
        )
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        blob = Path(os.readlink(path)).name if path.is_symlink() else ""
        hashes = (blob if re.fullmatch(f"[0-9a-f]{{{length}}}", blob) else None for length in (64, 40))
        files[path.relative_to(folder).as_posix()] = HubFile(path.stat().st_size, *hashes)
    return folder.name, files


def _note_revision(cache: Path, revision: str, commit: str) -> None:
    """Store the commit of a branch or tag in the cache, for use without a network."""
    ref = cache / "refs" / revision
    if revision != commit and ".." not in revision and re.fullmatch(r"[\w][\w./-]*", revision):
        ref.parent.mkdir(parents=True, exist_ok=True)
        write_text(ref, commit)


def _bar(label: str, file: HubFile, progress: OnBytes | None) -> Any:
    """A progress bar class for the hub's client that calls `progress` and draws nothing."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> None:
            # Downloads by xet have a second bar, of the compressed bytes.
            if progress and file.size > _LEAST_BAR and not self.desc.startswith("Downloading"):
                progress(label, int(self.n), file.size)

    return Bar


def _is_whole(path: Path, file: HubFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256(path) == file.sha256
    if file.sha1:  # git's name of a file: the SHA-1 of a header and its content
        content = b"blob %d\0" % file.size + path.read_bytes()
        return hashlib.sha1(content, usedforsecurity=False).hexdigest() == file.sha1
    return True


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Convert errors of the hub into one line each; others as `explained`."""
    check_network()
    check_token()
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        with explained(repo, hub):
            try:
                yield
            except errors.LocalEntryNotFoundError as error:  # raised by the client if the network failed
                raise error.__cause__ or error from None
    except FashionFlowError as error:
        cause = error.__context__
        if isinstance(cause, errors.RevisionNotFoundError):
            message, hint = f"has no revision {revision} on {hub}", f"check {option('revision')}"
        elif isinstance(cause, errors.GatedRepoError):
            message, hint = (
                f"is gated: its owners grant access on {hub}/{repo}",
                "ask there, then log in: hf auth login",
            )
        elif isinstance(cause, errors.RepositoryNotFoundError):
            message, hint = f"is not on {hub}, or is private", "check the name; for private ones log in: hf auth login"
        else:
            raise
        raise FashionFlowError(f"{repo}: {message}", hint) from None
    except errors.HFValidationError:
        raise FashionFlowError(f"{repo!r}: not the id of a repository", hint="write organisation/name") from None
