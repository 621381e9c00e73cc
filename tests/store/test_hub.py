"""Models from the hub, against an imitation of it on 127.0.0.1: checked, whole or not at all."""

import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import COMMAND, assert_refused, environment, interruptible, wait_until
from command import run_process as run
from hub_imitation import Hub, files_in, imitated_hub, nothing_installed, surroundings
from tiny import build_tiny_model

REPO = "shop/dresses"
UNET = "unet/diffusion_pytorch_model.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model folder as the files of a repository, its U-Net a few megabytes long."""
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    from safetensors.torch import load_file, save_file

    unet = folder / UNET
    save_file(load_file(unet) | {"unused": torch.randn(1_000_000)}, unet)
    return files_in(folder)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with imitated_hub() as hub:
        yield hub


@pytest.fixture
def env(tmp_path: Path, hub: Hub) -> dict[str, str]:
    return surroundings(hub, tmp_path)


def _installed(tmp_path: Path, name: str = "dresses") -> dict[str, bytes]:
    files = files_in(tmp_path / "home" / "models" / name)
    files.pop("source.json")
    return files


def test_pull_list_show_path_remove(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hidden = {
        "run.py": b"import os",
        "unet/weights.bin": b"pickle",
        "unet/hook.py": b"",
        "extra/big.safetensors": b"no",
    }
    commit = hub.add(REPO, tiny | hidden | {"README.md": b"# Dresses", "LICENSE": b"yours"})
    result = run("models", "pull", REPO, cwd=tmp_path, env=env)
    folder = tmp_path / "home" / "models" / "dresses"
    assert (result.returncode, result.stdout) == (0, f"{folder}\n"), result.stderr
    # No code, no pickles, nothing but a model folder's files; and they were never even asked for.
    assert _installed(tmp_path) == tiny | {"README.md": b"# Dresses", "LICENSE": b"yours"}
    asked = " ".join(hub.asked())
    assert "run.py" not in asked and ".bin" not in asked and "hook.py" not in asked and "extra/" not in asked
    # The token is for the hub, not for where it keeps its files.
    shown = {request.path.split("/")[1]: request.authorization for request in hub.requests}
    assert (shown["storage"], shown["shop"]) == (None, "Bearer hf_secret")
    assert "hf_secret" not in result.stderr
    source = json.loads((folder / "source.json").read_text())
    assert (source["repo"], source["commit"]) == (REPO, commit)
    assert source["files"][UNET] == {"size": len(tiny[UNET]), "sha256": hashlib.sha256(tiny[UNET]).hexdigest()}

    entries = {
        entry["name"]: entry for entry in json.loads(run("models", "list", "--json", cwd=tmp_path, env=env).stdout)
    }
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert (entries["dresses"]["state"], entries["dresses"]["size_bytes"]) == ("installed", size)
    assert (entries["published"]["state"], entries["published"]["size_bytes"]) == ("missing", 0)
    shown = json.loads(run("models", "show", "dresses", "--json", cwd=tmp_path, env=env).stdout)
    assert shown["source"] == f"{REPO} on the Hugging Face hub, commit {commit}"
    assert run("models", "path", "dresses", cwd=tmp_path, env=env).stdout == f"{folder}\n"

    assert_refused(run("models", "pull", REPO, cwd=tmp_path, env=env), 1, "dresses", "already installed")
    removed = run("models", "remove", "dresses", cwd=tmp_path, env=env)
    assert removed.returncode == 0 and str(size) in removed.stderr and str(folder) in removed.stderr
    assert nothing_installed(tmp_path)
    assert_refused(run("models", "path", "dresses", cwd=tmp_path, env=env), 1, "dresses")

    # The hub's own client finds in its cache what was brought there.
    from huggingface_hub import hf_hub_download, snapshot_download

    cache = tmp_path / "hf" / "hub"
    snapshot = Path(snapshot_download(REPO, local_files_only=True, cache_dir=cache))
    found = Path(hf_hub_download(REPO, UNET, revision=commit, local_files_only=True, cache_dir=cache))
    assert found == snapshot / UNET and found.read_bytes() == tiny[UNET]

    # The cache still has every file: nothing large comes again, and no network is needed at all.
    sent = hub.sent(WEIGHTS)
    assert run("models", "pull", REPO, cwd=tmp_path, env=env).returncode == 0
    assert hub.sent(WEIGHTS) == sent
    asked_before = len(hub.requests)
    offline = env | {"HF_HUB_OFFLINE": "1"}
    again = run("models", "pull", REPO, "--name", "gowns", cwd=tmp_path, env=offline)
    assert again.returncode == 0, again.stderr
    assert len(hub.requests) == asked_before and _installed(tmp_path, "gowns") == _installed(tmp_path)


def test_killed_midway_leaves_nothing_installed(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    hub.pause = {WEIGHTS: 0.05}  # three seconds for the U-Net
    log = tmp_path / "log"
    for signum in (signal.SIGKILL, signal.SIGINT):
        goal = hub.sent(WEIGHTS) + 1_000_000
        with log.open("wb") as streams, interruptible():
            process = subprocess.Popen(
                [*COMMAND, "models", "pull", REPO], cwd=tmp_path, env=environment(env), stdout=streams, stderr=streams
            )
        wait_until(lambda goal=goal: hub.sent(WEIGHTS) > goal, process, log)
        process.send_signal(signum)
        assert process.wait(20) == (-9 if signum == signal.SIGKILL else 130), log.read_text()
        assert "Traceback" not in log.read_text()
    assert nothing_installed(tmp_path)
    hub.pause = {}
    result = run("models", "pull", REPO, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert _installed(tmp_path) == tiny
    assert not list((tmp_path / "hf").rglob("*.incomplete"))


def test_what_arrives_changed_is_not_installed(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    for name in ("model.json", WEIGHTS, "scheduler_config.json"):
        hub.corrupt = {name}
        result = run("models", "pull", REPO, "--quiet", cwd=tmp_path, env=env)
        assert_refused(result, 1, REPO, name, "size or hash differs from the hub's")
        assert nothing_installed(tmp_path)
    hub.corrupt = set()
    assert run("models", "pull", REPO, cwd=tmp_path, env=env).returncode == 0
    assert _installed(tmp_path) == tiny
    # So is a cache that was damaged since: with a network it is mended, without one it is refused.
    blob = tmp_path / "hf" / "hub" / "models--shop--dresses" / "blobs" / hashlib.sha256(tiny[UNET]).hexdigest()
    turned = bytes([tiny[UNET][0] ^ 1]) + tiny[UNET][1:]
    blob.write_bytes(turned)
    assert run("models", "pull", REPO, "--name", "mended", cwd=tmp_path, env=env).returncode == 0
    assert _installed(tmp_path, "mended") == tiny
    blob.write_bytes(turned)
    result = run("models", "pull", REPO, "--name", "x", "-q", cwd=tmp_path, env=env | {"HF_HUB_OFFLINE": "1"})
    assert_refused(result, 1, UNET, "size or hash differs from the hub's")


def test_revisions_are_pinned(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    first = hub.add(REPO, tiny)
    second = hub.add(REPO, tiny | {"README.md": b"two"})
    assert run("models", "pull", REPO, "--revision", first, cwd=tmp_path, env=env).returncode == 0
    assert "README.md" not in _installed(tmp_path)
    assert not any(second in path or "main" in path for path in hub.asked())
    assert run("models", "pull", REPO, "--overwrite", cwd=tmp_path, env=env).returncode == 0
    assert _installed(tmp_path)["README.md"] == b"two"
    # A branch is asked about once; the files come from the commit that it was.
    files = [path for path in hub.asked() if "/resolve/" in path]
    assert files and all(first in path or second in path for path in files)
    assert_refused(run("models", "pull", REPO, "--revision", "v9", "--name", "x", "-q", cwd=tmp_path, env=env), 1, "v9")


@pytest.mark.slow
def test_refusals_are_one_line(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    hub.add("shop/secret", tiny)
    hub.add("shop/other", {"config.json": b"{}", "model.safetensors": b"x" * 1000})
    hub.add("shop/newer", tiny | {"model.json": b'{"name": "newer", "wings": 2}'})
    hub.add("shop/half", {name: content for name, content in tiny.items() if not name.startswith("vae/")})
    hub.add("shop/published", tiny)
    hub.gated = {"shop/secret"}
    nobody = env | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    offline = env | {"HF_HUB_OFFLINE": "1"}
    (tmp_path / "file").write_text("in the way")
    blocked = {name: env | {name: str(tmp_path / "file")} for name in ("FASHIONFLOW_HOME", "HF_HOME")}
    cases = [
        (blocked["FASHIONFLOW_HOME"], [REPO], 1, "not a directory"),
        (blocked["HF_HOME"], [REPO], 1, REPO, "not a directory"),
        (env | {"HF_ENDPOINT": "nonsense"}, [REPO], 1, "HF_ENDPOINT"),
        (env, ["shop/nothing"], 1, "shop/nothing", "is not on"),
        (env, ["shop/secret"], 1, "shop/secret", "is gated"),
        (env, ["shop/other"], 1, "shop/other", "no model.json"),
        (env, ["shop/newer"], 1, "wings"),
        (env, ["shop/half"], 1, "shop/half", "vae/"),
        (env, ["shop/published"], 1, "published", "another model"),
        (nobody, [REPO], 1, REPO, "127.0.0.1:9", "unreachable"),
        (offline, [REPO], 1, REPO, "not in the cache", "HF_HUB_OFFLINE"),
        (env, [REPO, "--name", "../up"], 1, "'../up'"),
        (env, [REPO, "--name", "/tmp/x"], 1, "'/tmp/x'"),
        (env, [REPO, "--name", ".hidden"], 1, "'.hidden'"),
        (env, [REPO, "--name", "mini-latent"], 1, "mini-latent"),
        (env, ["../../etc/passwd"], 1, "../../etc/passwd"),
        (env, ["shop/../dresses"], 1, "shop/../dresses"),
        (env, ["publishd"], 1, "publishd"),
        (env, ["mini-latent"], 1, "mini-latent", "nothing to pull"),
        (env, [REPO, "--checkpoint", "a.pth"], 2, "--checkpoint"),
        (env, ["published", "--revision", "v1"], 2, "--revision"),
        (env, ["published", "--checkpoint", "a.pth"], 1, "a.pth"),
        (env, ["published", "--checkpoint", "ftp://x/a.pth", "--sha256", "12"], 2, "--sha256"),
    ]
    for where, arguments, code, *words in cases:
        assert_refused(run("models", "pull", "--quiet", *arguments, cwd=tmp_path, env=where), code, *words)
        assert nothing_installed(tmp_path), arguments
    assert "/shop/other/resolve/" not in " ".join(hub.asked())  # what is no model of ours is not even fetched


def test_a_server_that_stumbles(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    hub.failing = 2
    assert run("models", "pull", REPO, cwd=tmp_path, env=env).returncode == 0
    hub.failing = 1000
    result = run("models", "pull", "shop/else", "-q", cwd=tmp_path, env=env)
    assert_refused(result, 1, "shop/else", "returned 503")
    # What is in the cache can be installed while the hub is down.
    assert run("models", "pull", REPO, "--name", "b", cwd=tmp_path, env=env).returncode == 0


@pytest.mark.slow
def test_a_server_that_falls_silent(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    hub.hang.set()
    silent = run("models", "pull", REPO, "-q", cwd=tmp_path, env=env | {"HF_HUB_ETAG_TIMEOUT": "1"})
    hub.hang.clear()
    assert_refused(silent, 1, REPO, "download failed")


def test_names_that_lead_out_are_passed_over(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    evil = (
        "../evil.json",
        "../../../evil.txt",
        "unet/../../../evil.json",
        "/tmp/evil.json",
        "..\\evil.json",
        "C:evil.json",
    )
    hub.add(REPO, tiny | dict.fromkeys(evil, b"{}"))
    result = run("models", "pull", REPO, "-q", cwd=tmp_path, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert _installed(tmp_path) == tiny
    assert not list(tmp_path.rglob("*evil*")) and not any("evil" in path for path in hub.asked())


def test_two_at_once(tmp_path: Path, hub: Hub, env: dict[str, str], tiny: dict[str, bytes]):
    hub.add(REPO, tiny)
    hub.pause = {WEIGHTS: 0.005}
    command = [*COMMAND, "models", "pull", REPO, "-q"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ends = [(process.wait(120), *process.communicate()) for process in both]
    assert sorted(code for code, _, _ in ends) == [0, 1], ends
    refused = next(stderr for code, _, stderr in ends if code)
    assert b"already installed" in refused and b"Traceback" not in refused
    assert _installed(tmp_path) == tiny
    whole = sum(len(content) for name, content in tiny.items() if name.endswith(WEIGHTS))
    assert hub.sent(WEIGHTS) == whole
