"""`fashionflow models pull base`: VAE and CLIP alone, with hashes recorded at the first pull."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import assert_refused
from command import run_process as run
from hub_imitation import Hub, files_in, imitated_hub, nothing_installed, surroundings
from tiny import build_sources

from fashionflow_core.store.registry import KNOWN

NARROW = [word for one in ("unet.widths=8,16", "unet.cross_heads=1,2", "unet.heads=2") for word in ("--set", one)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_in(build_sources(tmp_path_factory.mktemp("sources")))


@pytest.fixture
def hub(sources: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with both repositories at the pinned commits."""
    with imitated_hub() as hub:
        for part, place in KNOWN["published"].parts.items():
            inside = {
                name if part == "vae" else name.removeprefix("clip/"): content
                for name, content in sources.items()
                if name.startswith(f"{part}/")
            }
            hub.repos[place.repo] = {place.revisions[-1]: inside}
        yield hub


def test_base_is_pulled_listed_and_made_a_model(tmp_path: Path, hub: Hub):
    env = surroundings(hub, tmp_path)
    pulled = run("models", "pull", "base", cwd=tmp_path, env=env)
    folder = tmp_path / "home" / "models" / "base"
    assert (pulled.returncode, pulled.stdout) == (0, f"{folder}\n"), pulled.stderr
    assert "Open RAIL-M" in pulled.stderr
    assert {path.name for path in folder.iterdir()} == {"vae", "image_encoder", "feature_extractor", "source.json"}
    source = json.loads((folder / "source.json").read_text())
    assert set(source["sources"]) == {place.repo for place in KNOWN["published"].parts.values()}
    assert all(len(file["sha256"]) == 64 for file in source["files"].values())
    row = next(
        row
        for row in json.loads(run("models", "list", "--json", cwd=tmp_path, env=env).stdout)
        if row["name"] == "base"
    )
    assert (row["state"], row["path"]) == ("installed", str(folder))
    shown = json.loads(run("models", "show", "base", "--json", cwd=tmp_path, env=env).stdout)
    assert set(shown["parameters"]) == {"vae", "image_encoder", "total"}
    made = run("models", "new", "paper", *NARROW, "--size", "64x32", "--frames", "4", "-q", cwd=tmp_path, env=env)
    assert (made.returncode, made.stdout) == (0, f"{folder.parent / 'paper'}\n"), made.stderr


@pytest.mark.slow
def test_another_content_than_at_the_first_pull_is_refused(tmp_path: Path, hub: Hub):
    """Also after the networks were removed: the record stays."""
    env = surroundings(hub, tmp_path)
    assert run("models", "pull", "base", "-q", cwd=tmp_path, env=env).returncode == 0
    assert run("models", "remove", "base", "-q", cwd=tmp_path, env=env).returncode == 0
    repo = KNOWN["published"].parts["vae"].repo
    for files in hub.repos[repo].values():
        files["vae/config.json"] = files["vae/config.json"] + b"\n"
    refused = run("models", "pull", "base", "-q", cwd=tmp_path, env=env | {"HF_HOME": str(tmp_path / "other")})
    assert_refused(refused, 1, f"{repo}/vae/config.json: SHA-256 is", "as at the first pull")
    assert nothing_installed(tmp_path) or not (tmp_path / "home" / "models" / "base").exists()


@pytest.mark.slow
def test_networks_are_not_a_model(tmp_path: Path, hub: Hub):
    env = surroundings(hub, tmp_path)
    assert run("models", "pull", "base", "-q", cwd=tmp_path, env=env).returncode == 0
    refused = run("models", "path", "base", cwd=tmp_path, env=env)
    assert_refused(refused, 1, "base: not a model but networks")
    assert "fashionflow models new NAME" in refused.stderr
    assert_refused(run("models", "pull", "base", "-q", cwd=tmp_path, env=env), 1, "base is already installed")
