"""Files from the Hugging Face hub: kept in the hub's own cache, resumed, checked by hash.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean elsewhere, since the hub's own client asks and
says where things are. Its downloads are not used (huggingface_hub 2.4): they resume only as long as the process lives,
in steps of 10 MB, check sizes but no hashes, and wait without limit for a server that fell silent. Files are brought
into its documented cache layout here, `blobs/HASH` and links to them in `snapshots/COMMIT`, where it finds them too.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from fashionflow_core.download import (
    Progress,
    check_room,
    digest,
    explained,
    is_connection,
    persistent,
    status,
    transfer,
)
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import atomic_path, write_text
from fashionflow_core.registry import HubPart

# Weights that are tensors alone, what describes them, and the terms they come under. No pickles, no code.
ALLOWED = ("*.safetensors", "*.json", "*.txt", "*.md", "LICENSE", "NOTICE")

_WORTH_A_BAR = 1_000_000  # bytes


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: size in bytes; `sha256` of large files, else git's own hash `sha1` of small ones."""

    size: int
    sha256: str | None = None
    sha1: str | None = None

    @property
    def hash(self) -> str:
        """What the hub's cache names the file after; empty if the hub told none."""
        return self.sha256 or self.sha1 or ""


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit, whole and checked, in the hub's cache."""

    repo: str
    commit: str
    folder: Path
    files: Mapping[str, HubFile]

    def record(self) -> dict[str, Any]:
        """What `source.json` holds."""
        files = {
            name: {key: value for key, value in asdict(file).items() if value} for name, file in self.files.items()
        }
        return {"repo": self.repo, "commit": self.commit, "files": files}


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch(
    repo: str,
    revision: str | None = None,
    choose: Callable[[list[str]], list[str]] = list,
    progress: Progress | None = None,
) -> Snapshot:
    """Bring files of a hub repository into the hub's cache and check them.

    Args:
        repo: `organisation/name`.
        revision: branch, tag or commit; the default branch if None.
        choose: takes the paths in the repository, of allow-listed kinds alone, and returns those that are wanted.
        progress: told of every piece of a file above a megabyte.

    Returns:
        Where they are. Without a network, or with HF_HUB_OFFLINE=1, what an earlier call left in the cache.

    Raises:
        FashionFlowError: no such repository, no access, no network and not in the cache, a full disk, or a file that
            is not what its repository says.
    """
    with _explained(repo, revision):
        listed = _listing(repo, revision)
        if listed is None:
            return _cached(repo, revision, choose)
        commit, everything = listed
        files = {name: everything[name] for name in choose(sorted(filter(_allowed, everything)))}
        cache = _repository_cache(repo)
        missing = [file.size for file in files.values() if not (cache / "blobs" / file.hash).exists()]
        check_room(repo, sum(missing), cache)
        folder = cache / "snapshots" / commit
        for name, file in files.items():
            _place(_bring(repo, commit, name, file, progress), folder / name)
        if files:
            _note_revision(cache, revision or "main", commit)
    return Snapshot(repo, commit, folder, files)


def fetch_part(part: HubPart, folders: tuple[str, ...], progress: Progress | None = None) -> Path:
    """One network: its configuration and weights, from the first of its commits and of `folders` ("." is the top).

    Returns:
        The snapshot, in which that folder is.

    Raises:
        FashionFlowError: as `fetch`; also when none of them holds safetensors.
    """

    def choose(names: list[str]) -> list[str]:
        for folder in folders:
            inside = [name for name in names if str(PurePosixPath(name).parent) == folder]
            # What `from_pretrained` opens: not the half-precision variants beside it.
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
            failure = error  # offline the cache may still hold the next one
            continue
        if snapshot.files:
            return snapshot.folder
    raise failure


def _allowed(name: str) -> bool:
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    return plain and any(fnmatchcase(path.name, pattern) for pattern in ALLOWED)


def _listing(repo: str, revision: str | None) -> tuple[str, dict[str, HubFile]] | None:
    """The commit that `revision` is, and all its files; None where the hub cannot be asked."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if is_offline():
        return None
    api = HfApi()

    def ask() -> tuple[str, dict[str, HubFile]]:
        # Not `list_repo_tree` nor `resolve_revision`: they wait for minutes for a server that does not answer.
        options: Any = {"files_metadata": True, "timeout": constants.HF_HUB_ETAG_TIMEOUT}
        found = api.model_info(repo, revision=revision, **options)
        return str(found.sha), {
            file.rfilename: HubFile(file.lfs.size, sha256=file.lfs.sha256)
            if file.lfs
            else HubFile(file.size or 0, sha1=file.blob_id)
            for file in found.siblings or []
        }

    try:
        return persistent(ask)
    except OfflineModeIsEnabled:
        return None
    except Exception as error:
        # Down, but we may have been here before; the commit is then the one that was current at that time.
        if (is_connection(error) or (status(error) or 0) >= 500) and _cached_folder(repo, revision):
            return None
        raise


def _cached_folder(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
    except LocalEntryNotFoundError:
        return None


def _cached(repo: str, revision: str | None, choose: Callable[[list[str]], list[str]]) -> Snapshot:
    """What the cache holds of a repository, checked by the hashes that its blobs are named after."""
    folder = _cached_folder(repo, revision)
    if folder is None:
        raise FashionFlowError(
            f"{repo}: is not in the cache, and HF_HUB_OFFLINE forbids the network",
            hint="unset HF_HUB_OFFLINE to download it",
        )
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {}
    for name in choose(list(filter(_allowed, names))):
        path = folder / name
        blob = Path(os.readlink(path)).name if path.is_symlink() else ""
        sha256, sha1 = (blob if re.fullmatch(f"[0-9a-f]{{{length}}}", blob) else None for length in (64, 40))
        files[name] = HubFile(path.stat().st_size, sha256, sha1)
    for name, file in files.items():
        if not _is_whole(folder / name, file):
            for path in ((folder / name).resolve(), folder / name):
                path.unlink(missing_ok=True)
            raise _changed(repo, name)
    return Snapshot(repo, folder.name, folder, files)


def _note_revision(cache: Path, revision: str, commit: str) -> None:
    """Leave in the cache which commit a branch or tag was: without a network that is what is asked for."""
    ref = cache / "refs" / revision
    if revision != commit and ".." not in revision and re.fullmatch(r"[\w][\w./-]*", revision):
        ref.parent.mkdir(parents=True, exist_ok=True)
        write_text(ref, commit)


def _repository_cache(repo: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repo, repo_type="model")


def _bring(repo: str, commit: str, name: str, file: HubFile, progress: Progress | None) -> Path:
    """A file as a blob of the hub's cache: there already, or fetched from where an earlier run stopped."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    cache = _repository_cache(repo)
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.hash):  # it becomes the name of a file
        raise FashionFlowError(f"{repo}/{name}: {endpoint()} gives no hash to check it by", hint="check HF_ENDPOINT")
    blob = cache / "blobs" / file.hash
    lock = cache.parent / ".locks" / cache.name / f"{file.hash}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if _is_whole(blob, file):
            return blob
        blob.unlink(missing_ok=True)
        partial = blob.with_name(f"{blob.name}.incomplete")
        # The address is asked anew for each try: the hub leads to places of its storage that are valid for an hour.
        # The token is sent to the hub alone, since its client drops it where an answer leads to another host.
        url = hf_hub_url(repo, name, revision=commit)
        transfer(
            url,
            partial,
            build_hf_headers(),
            file.size,
            f"{repo}/{name}",
            progress if file.size > _WORTH_A_BAR else None,
        )
        if not _is_whole(partial, file):
            partial.unlink(missing_ok=True)
            raise _changed(repo, name)
        partial.replace(blob)
    return blob


def _place(blob: Path, path: Path) -> None:
    """Make `path` in a snapshot lead to a blob: a relative link, or a copy where there are none."""
    link = os.path.relpath(blob, path.parent)
    if path.is_symlink() and os.readlink(path) == link:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(link)
    except FileExistsError:  # another process was quicker
        pass
    except (OSError, NotImplementedError):
        with atomic_path(path) as temporary:
            shutil.copyfile(blob, temporary)


def _changed(repo: str, name: str) -> FashionFlowError:
    return FashionFlowError(
        f"{repo}/{name}: is not what the hub promised (its size or hash differs); it was thrown away",
        hint="try again; if it stays so, a proxy or mirror changes files: check HF_ENDPOINT",
    )


def _is_whole(path: Path, file: HubFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        return digest(path, hashlib.sha256()) == file.sha256
    if file.sha1:  # git's name of a file: the SHA-1 of a header and its content
        return digest(path, hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)) == file.sha1
    return True


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """The hub's own refusals as one line each; the rest as `explained` says it."""
    from huggingface_hub import errors

    hub = endpoint()
    try:
        with explained(repo, hub):
            yield
    except FashionFlowError as error:
        cause = error.__context__
        if isinstance(cause, errors.RevisionNotFoundError):
            message, hint = f"has no revision {revision} on {hub}", "check --revision"
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
        raise FashionFlowError(f"{repo!r}: is no name of a repository", hint="write organisation/name") from None
