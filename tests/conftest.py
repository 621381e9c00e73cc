"""What every test can count on: a share of the processors, no network, no settings of the user, its markers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import devtools
    import miniatures

# Before anything imports torch: parallel workers that each start a thread per processor only get in each other's way.
# Set in the workers alone: they inherit what the process that starts them has set, and would divide no further.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _SHARE = _CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _SHARE)))
os.environ["HF_HUB_OFFLINE"] = "1"
# Ignored by programs under nohup and by all that they start: tests send it.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Polygraphy reads it once, whichever test imports it first; TensorRT-RTX is the flavor that builds without a GPU.
os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
for _name in [name for name in os.environ if name.startswith("FASHIONFLOW_")]:
    del os.environ[_name]


# Fixtures that export a whole model, which takes up to a minute.
EXPORTED = {"engines", "halves", "mini_engines"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests of exported models are slow."""
    if EXPORTED & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where torch finds no CUDA device; torch is imported only if such tests were selected."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none here"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden values and of what generates their inputs."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def metric_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the feature networks, their values made from names."""
    from metric_weights import write_named_weights

    folder = tmp_path_factory.mktemp("metric-weights")
    write_named_weights(folder)
    return folder


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> "miniatures.Miniature":
    """A function that copies the miniature of a family of video pipelines into a folder."""
    from miniatures import copier

    return copier(tmp_path_factory)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator["devtools.Page"]:
    """A page of a headless Chromium, one for all tests of a module."""
    import browser
    import devtools

    program = browser.find()
    if program is None:
        pytest.skip(f"needs Chromium, and none of {', '.join(browser.NAMES)} is on the PATH")
    with devtools.opened(program, tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page
