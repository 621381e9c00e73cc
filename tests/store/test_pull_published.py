"""`fashionflow models pull published`: what may be fetched is, what has no licence is brought by its user."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import assert_refused
from command import run_process as run
from hub_imitation import Hub, files_in, imitated_hub, nothing_installed, surroundings
from tiny import build_sources, hollow_published

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_in(build_sources(tmp_path_factory.mktemp("sources")))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with imitated_hub() as hub:
        yield hub


@pytest.fixture
def env(tmp_path: Path, hub: Hub) -> dict[str, str]:
    return surroundings(hub, tmp_path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "FashionFlow_checkpoint.pth"
    torch.save({part: hollow_published(part) for part in ("net", "adapter")}, path)
    return path


@pytest.fixture
def stocked(hub: Hub, sources: dict[str, bytes]) -> Hub:
    """The hub with the two repositories that `published` is pinned to, at exactly those commits."""
    from fashionflow_core.store.registry import KNOWN

    parts = KNOWN["published"].parts
    pickled = {"vae/config.json": sources["vae/config.json"], "vae/diffusion_pytorch_model.bin": b"pickle"}
    vae = {name: content for name, content in sources.items() if name.startswith("vae/")} | {"unet/x.bin": b"big"}
    first, second = parts["vae"].revisions
    hub.repos[parts["vae"].repo] = {first: pickled, second: vae, "0" * 40: {}}
    clip = {name.removeprefix("clip/"): content for name, content in sources.items() if name.startswith("clip/")}
    hub.repos[parts["clip"].repo] = {parts["clip"].revisions[0]: clip, "0" * 40: {}}
    return hub


def test_published_without_its_checkpoint(tmp_path: Path, stocked: Hub, env: dict[str, str]):
    result = run("models", "pull", "published", "-q", cwd=tmp_path, env=env)
    assert_refused(result, 1, "published", "no licence", "https://www.dropbox.com/", "FashionFlow_checkpoint.pth")
    assert "--checkpoint" in result.stderr.splitlines()[1]
    assert nothing_installed(tmp_path)
    assert stocked.sent(WEIGHTS) > 0 and stocked.sent("diffusion_pytorch_model.bin") == 0
    before = len(stocked.requests)
    again = run("models", "pull", "published", "-q", cwd=tmp_path, env=env | {"HF_HUB_OFFLINE": "1"})
    assert_refused(again, 1, "no licence")  # VAE and CLIP were kept
    assert len(stocked.requests) == before


@pytest.mark.slow
def test_published_from_a_file(tmp_path: Path, stocked: Hub, env: dict[str, str], checkpoint: Path):
    right = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    command = ("models", "pull", "published", "-q", "--checkpoint", checkpoint)
    assert_refused(run(*command, "--sha256", "0" * 64, cwd=tmp_path, env=env), 1, checkpoint.name, right)
    result = run(*command, "--sha256", right.upper(), cwd=tmp_path, env=env)
    folder = tmp_path / "home" / "models" / "published"
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{folder}\n", "")
    assert json.loads(run("models", "show", "published", "--json", cwd=tmp_path, env=env).stdout)["path"] == str(folder)
    assert checkpoint.is_file()


@pytest.mark.slow
def test_published_from_an_address(tmp_path: Path, stocked: Hub, env: dict[str, str], checkpoint: Path):
    content = checkpoint.read_bytes()
    stocked.files["ck.pth"] = content
    stocked.drop = {"ck.pth": [1000, len(content) // 2]}
    address = f"{stocked.url}/plain/ck.pth"
    command = ("models", "pull", "published", "-q", "--checkpoint", address)
    downloads = tmp_path / "home" / "models" / ".downloads"
    assert_refused(run(*command, "--sha256", "0" * 64, cwd=tmp_path, env=env), 1, address, "SHA-256")
    assert not list(downloads.glob("*.incomplete"))
    before = stocked.sent("ck.pth")
    assert before == len(content)
    stocked.corrupt = {"ck.pth"}
    stocked.files["ck.pth"] = b"<html>sign in</html>"
    assert_refused(run(*command, cwd=tmp_path, env=env), 1, address, "damaged")
    stocked.corrupt, stocked.files["ck.pth"] = set(), content
    result = run(*command, "--sha256", hashlib.sha256(content).hexdigest(), cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert not list(downloads.glob("*.incomplete")) and not nothing_installed(tmp_path)
    missing = run(
        "models", "pull", "published", "-q", "--overwrite", "--checkpoint", f"{address}x", cwd=tmp_path, env=env
    )
    assert_refused(missing, 1, "404")


def test_an_address_whose_file_changed_starts_anew(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    from fashionflow_core.utils import download

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.files["a.pth"] = os.urandom(300_000)
    first = download.download(f"{hub.url}/plain/a.pth", tmp_path)
    assert first.read_bytes() == hub.files["a.pth"]
    first.write_bytes(first.read_bytes()[:200_000])  # as an interrupted run leaves it
    before = hub.sent("a.pth")
    assert download.download(f"{hub.url}/plain/a.pth", tmp_path).read_bytes() == hub.files["a.pth"]
    assert hub.sent("a.pth") - before == 100_000
    first.write_bytes(first.read_bytes()[:200_000])
    hub.files["a.pth"] = os.urandom(300_000)
    assert download.download(f"{hub.url}/plain/a.pth", tmp_path).read_bytes() == hub.files["a.pth"]
    assert len(list(tmp_path.glob("*.incomplete"))) == 1


def test_an_address_that_only_answers_get(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    from fashionflow_core.errors import FashionFlowError
    from fashionflow_core.utils import download

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.files["signed.pth"] = os.urandom(300_000)
    hub.no_head, hub.drop = {"signed.pth"}, {"signed.pth": [100_000]}
    for _ in range(2):  # nothing says that what is there is still the same file: it comes anew
        before = hub.sent("signed.pth")
        fetched = download.download(f"{hub.url}/plain/signed.pth", tmp_path)
        assert fetched.read_bytes() == hub.files["signed.pth"]
        assert hub.sent("signed.pth") - before == 300_000
    for address in ("ftp://a/b", "data:text/plain,x", "http://", "//a/b"):
        with pytest.raises(FashionFlowError, match="not an http"):
            download.download(address, tmp_path)


def test_a_disk_without_room(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    from fashionflow_core.errors import FashionFlowError
    from fashionflow_core.utils import download

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.files["large.pth"] = bytes(300_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(FashionFlowError, match=r"large\.pth: needs 0 MB in .*; 0 MB free"):
        download.download(f"{hub.url}/plain/large.pth", tmp_path)
    assert hub.sent("large.pth") == 0
