"""Refusals before weights are opened, and hints of errors."""

import ast
import subprocess
import sys
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from command import assert_refused, run
from photos import worn

import fashionflow_core
from fashionflow_core.store.registry import find
from fashionflow_core.training.config import FIELDS
from fashionflow_core.training.settings import FLAT
from fashionflow_core.utils import extras
from fashionflow_core.utils.nearest import did_you_mean, nearest

ROOT = Path(fashionflow_core.__file__).parents[1]
SOURCES = [
    file
    for folder in ("fashionflow_cli", "fashionflow_core", "export", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
# Of a helper process to its parent, which names what was at work.
INTERNAL = {"photo_process.py", "worker.py"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, and models that have their settings and no readable weights."""
    folder = tmp_path_factory.mktemp("shop")
    worn().save(folder / "dress.jpg")
    for name in ("mini", "mini-latent"):
        source = find(name)
        for file in source.rglob("*"):
            target = folder / name / file.relative_to(source)
            if file.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"broken" if file.suffix == ".safetensors" else file.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["--frames", "7"], ["--frames: 7 is not a multiple of 2"], "use --frames 6 or 8"),
        (["--size", "64x64"], ["--size: 64x64 is not possible"], "omit --size"),
        (["--motion", "sway"], ["--motion: model mini-latent does not move the photo"], "--model mini"),
        (["--duration", "2"], ["--duration: model mini-latent"], "use --frames and --fps"),
        (["--matte", "dress.jpg"], ["--matte: model mini-latent generates"], "omit --matte"),
    ],
)
def test_what_an_appearance_model_cannot_do_is_refused_before_its_weights_are_opened(
    shop: Path, arguments: list[str], words: list[str], hint: str
) -> None:
    result = run("generate", "dress.jpg", "-o", "a.mp4", "-m", "./mini-latent", "-q", *arguments, cwd=shop)
    assert_refused(result, 2, *words)
    assert hint in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--conditioning", "local"], "--conditioning: model mini moves the photo itself"),
        (["--low-memory"], "--low-memory: a motion model has only a few megabytes"),
        (["--duration", "1e6"], "--duration: 1e+06 s at"),
    ],
)
def test_what_a_motion_model_cannot_do_is_refused_before_its_weights_are_opened(
    shop: Path, arguments: list[str], words: str
) -> None:
    assert_refused(run("generate", "dress.jpg", "-o", "a.mp4", "-m", "./mini", "-q", *arguments, cwd=shop), 2, words)


def test_a_catalogue_and_an_interpolation_are_refused_as_early(shop: Path) -> None:
    result = run("generate", "dress.jpg", "-o", "out", "-m", "./mini-latent", "--frames", "7", "-q", cwd=shop)
    assert_refused(result, 2, "--frames: 7 is not a multiple of 2")
    assert not (shop / "out").exists()
    shown = Path("dress.gif")
    from PIL import Image

    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "green", "blue")]
    frames[0].save(shop / shown, save_all=True, append_images=frames[1:])
    refused = run("interpolate", shown, "-o", "b.mp4", "-m", "./mini-latent", "--frames", "3", "-q", cwd=shop)
    assert_refused(refused, 2, "--frames: 3 is not a multiple of 2")
    assert_refused(run("interpolate", shown, "-o", "b.mp4", "-m", "./mini", cwd=shop), 2, "--model: mini moves photos")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("learning_rate", "lr"),
        ("learning-rate", "lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("lora_rnk", "lora_rank"),
        ("num_epochs", "max_epochs"),
        ("max_grad", "max_grad_norm"),
        ("zzz", ""),
    ],
)
def test_the_nearest_setting_is_the_one_that_is_meant(name: str, meant: str) -> None:
    known = FLAT | {one: one for one in FIELDS}
    assert known.get(nearest(name, known), "") == known.get(meant, "")


def test_did_you_mean_is_empty_where_nothing_is_near() -> None:
    assert did_you_mean("num_inference_steps", ["seed", "steps"]) == "did you mean steps? "
    assert did_you_mean("resolution", ["seed", "steps"]) == ""


def test_a_config_file_and_train_propose_the_nearest_name(shop: Path) -> None:
    (shop / "a.yaml").write_text("guidance_scale: 2\n")
    refused = run("generate", "dress.jpg", "--config", "a.yaml", cwd=shop)
    assert "did you mean guidance?" in refused.stderr
    refused = run("train", "--set", "learning_rate=1", "-o", "run", cwd=shop)
    assert "did you mean optimizer.lr?" in refused.stderr


def test_errors_of_a_user_have_a_hint(shop: Path) -> None:
    """Of a usage error at least the help of its command."""
    refused = run("interpolate", "dress.jpg", "--factor", "3", cwd=shop)
    assert_refused(refused, 2, "--factor: must be 2 or 4, not 3")
    assert "hint: see fashionflow interpolate --help" in refused.stderr
    refused = run("models", "pull", "mini", "--revision", "main", cwd=shop)
    assert_refused(refused, 2, "mini")
    assert "hint: see fashionflow models pull --help" in refused.stderr


def test_no_other_error_is_raised_without_a_hint() -> None:
    lacking = []
    for file in SOURCES:
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "FashionFlowError":
                continue
            if len(call.args) < 2 and not any(keyword.arg == "hint" for keyword in call.keywords):
                lacking.append(f"{file.relative_to(ROOT)}:{call.lineno}")
    assert [line for line in lacking if line.rpartition("/")[2].partition(":")[0] not in INTERNAL] == []


def test_no_hint_names_an_index_that_does_not_have_this_package() -> None:
    assert [str(file) for file in SOURCES if "pip install 'fashionflow" in file.read_text()] == []


def test_an_extra_is_installed_from_the_checkout_or_by_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "fashionflow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fashionflow\nVersion: 1.0\nRequires-Dist: numpy>=2\n"
        'Requires-Dist: zebra>=1; extra == "onnx"\nRequires-Dist: yak>=2; extra == "heif"\n'
        "Requires-Dist: xenon[data]>=3; sys_platform == 'nowhere' and extra == 'onnx'\n"
    )
    checkout = tmp_path / "check out"
    checkout.mkdir()
    monkeypatch.setattr(metadata, "distribution", lambda _name: Distribution.at(info))
    assert extras.install("onnx") == "pip install 'zebra>=1'"
    (info / "direct_url.json").write_text(f'{{"dir_info": {{"editable": true}}, "url": "{checkout.as_uri()}"}}')
    assert extras.install("onnx", "heif") == "pip install 'zebra>=1' 'yak>=2'"  # the checkout is gone
    (checkout / "pyproject.toml").touch()
    assert extras.install("onnx") == f"pip install -e '{checkout}[onnx]'"
    assert extras.install("onnx", force=True) == "pip install --force-reinstall 'zebra>=1'"


@pytest.mark.slow
def test_the_command_for_an_extra_is_one_that_pip_takes() -> None:
    found = extras.checkout(metadata.distribution(extras.PACKAGE))
    if found is None:
        pytest.skip("not installed from a checkout")
    dry = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--no-build-isolation",
        f"{found[0]}[onnx]",
    ]
    done = subprocess.run(dry, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
