"""`fashionflow models pull metrics`: the feature networks' files, resumed, and checked by what is known of them."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import assert_refused, environment, run
from video_server import Site, serving

from fashionflow_core.metrics.weights import FILES

CONTENT = {"i3d": b"i3d " * 50_000, "inception": b"inception " * 50_000}

# The command, with addresses and hashes of the files on our server: its only difference from the real one.
SCRIPT = """
import sys
from dataclasses import replace
from fashionflow_core.metrics import weights
site, i3d, inception = sys.argv[1:4]
for kind, hash in (("i3d", i3d), ("inception", inception)):
    weights.FILES[kind] = replace(weights.FILES[kind], url=f"{site}/{weights.FILES[kind].name}", sha256=hash)
sys.argv[1:] = ["models", "pull", "metrics", *sys.argv[4:]]
from fashionflow_cli.main import main
main()
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.files = {f"/{FILES[kind].name}": content for kind, content in CONTENT.items()}
        yield site


def pull(site: Site, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    i3d, inception = (hashlib.sha256(CONTENT[kind]).hexdigest() for kind in ("i3d", "inception"))
    env = environment({"HF_HUB_OFFLINE": "0", "FASHIONFLOW_HOME": str(home), "NO_PROXY": "127.0.0.1"})
    command = [sys.executable, "-c", SCRIPT, site.url, i3d, inception[:8], *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_fetched_once_and_found(site: Site, tmp_path: Path):
    site.drop = {f"/{FILES['i3d'].name}": [100_000]}  # a connection that breaks goes on where it was
    done = pull(site, tmp_path)
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'metrics'}\n", done.stderr
    for kind, content in CONTENT.items():
        assert (tmp_path / "metrics" / FILES[kind].name).read_bytes() == content
        assert hashlib.sha256(content).hexdigest() in done.stderr  # the hash is shown
    requests = len(site.log)
    again = pull(site, tmp_path)
    assert again.returncode == 0 and len(site.log) == requests
    (tmp_path / "fake").mkdir()
    # What was fetched is where evaluate looks: it goes on to the clips, and finds none.
    found = run("evaluate", "--fake", "fake", cwd=tmp_path, env={"FASHIONFLOW_HOME": str(tmp_path)})
    assert_refused(found, 1, "fake", "no clips")


@pytest.mark.parametrize("kind", ["i3d", "inception"])
def test_another_file_is_thrown_away(site: Site, tmp_path: Path, kind: str):
    site.files[f"/{FILES[kind].name}"] = b"something else"
    done = pull(site, tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and FILES[kind].name in lines[0] and "SHA-256" in lines[0]
    assert not (tmp_path / "metrics" / FILES[kind].name).exists()


def test_a_file_of_somebody_else_stays(site: Site, tmp_path: Path):
    own = tmp_path / "metrics" / FILES["i3d"].name
    own.parent.mkdir()
    own.write_bytes(b"mine")
    assert_refused(pull(site, tmp_path), 1, FILES["i3d"].name, "is not the public file")
    assert own.read_bytes() == b"mine"
    assert pull(site, tmp_path, "--overwrite").returncode == 0
    assert own.read_bytes() == CONTENT["i3d"]


def test_options_of_models_are_refused(tmp_path: Path):
    assert_refused(run("models", "pull", "metrics", "--revision", "main", cwd=tmp_path), 2, "metrics")
    assert_refused(run("models", "pull", "metric", cwd=tmp_path), 1, "metric")


def test_without_a_network_the_reason_is_said(tmp_path: Path):
    done = run("models", "pull", "metrics", cwd=tmp_path, env={"FASHIONFLOW_HOME": str(tmp_path)})
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr
