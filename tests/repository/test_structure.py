"""Rules of the repository: imports point one way, dependencies are declared, the wheel is clean."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import architecture_tree
import pytest
from places import ROOT

PACKAGES = {
    "fashionflow_cli": ROOT / "fashionflow_cli",
    "fashionflow_core": ROOT / "fashionflow_core",
    "fashionflow_export": ROOT / "export" / "fashionflow_export",
    "fashionflow_benchmarks": ROOT / "benchmarks" / "fashionflow_benchmarks",
}

# What an extra brings; everything else that shipped code imports must be a base dependency.
EXTRA_MODULES = frozenset(
    (
        "c2pa",
        "cryptography",
        "accelerate",
        "anny",
        "fastapi",
        "cv2",
        "matplotlib",
        "numba",
        "onnxruntime",
        "onnxscript",
        "peft",
        "pillow_heif",
        "polygraphy",
        "python_multipart",
        "ray",
        "scipy",
        "starlette",
        "tensorrt",
        "tensorrt_rtx",
        "uvicorn",
        "torchvision",  # `doctor` asks whether one that is there works
        "warp",
        "warp",
    )
)


def _module(package: str, path: Path) -> str:
    parts = path.relative_to(PACKAGES[package].parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    return {_module(name, path): path for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))}


@cache
def _imports(path: Path, module: str) -> frozenset[str]:
    """All modules that a file imports anywhere in it, functions and type checking included, with absolute names."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                around = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*around, *([base] if base else [])])
            # `from package import module` imports the module; `from module import name` only the module.
            found |= {full if (full := f"{base}.{alias.name}") in _modules() else base for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and type(arg.value) is str}
    return frozenset(found)


def test_imports_keep_the_contracts():
    """What may import what stands in pyproject.toml, as contracts of import-linter."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_class_names_are_unique():
    """The reference U-Net alone repeats names: those of the networks that are compared with it."""
    found: dict[str, list[str]] = {}
    for module, path in _modules().items():
        if module != "fashionflow_benchmarks.reference_unet":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def _names(requirements: list[str]) -> set[str]:
    """Distribution names of requirement lines, as package indexes normalise them."""
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in requirements}


@cache
def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_constraints_pin_everything_exactly():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert not [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*(; .+)?", pin)]
    extras = _project()["optional-dependencies"]
    wanted = [line for extra in ("dev", "train", "ray", "s3", "serve", "synth3d") for line in extras[extra]]
    assert _names(_project()["dependencies"] + wanted) <= _names(pins)


def test_what_is_imported_is_declared():
    """Packages that happen to come with another one vanish when that one changes its mind."""
    distributions, declared = packages_distributions(), _names(_project()["dependencies"])
    undeclared = set()
    for module, path in _modules().items():
        for name in {target.split(".")[0] for target in _imports(path, module)}:
            if name in PACKAGES or name in sys.stdlib_module_names or name in EXTRA_MODULES:
                continue
            if not _names(distributions.get(name, [name])) & declared:
                undeclared.add(f"{module}: {name}")
    assert not undeclared, "\n".join(sorted(undeclared))


@cache
def _tracked() -> list[Path]:
    """The files of the repository: what git tracks or would, else (an unpacked archive) whatever is not hidden."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
        return [path for path in paths if path.is_file()]
    visible = (path for path in ROOT.rglob("*") if not any(p.startswith(".") for p in path.relative_to(ROOT).parts))
    return sorted(path for path in visible if path.is_file())


def test_nothing_is_tied_to_one_machine():
    """Package-index addresses and this checkout's own whereabouts work for nobody else."""
    around = ROOT.parent
    places = [f"{ROOT}/"] + ([f"{around}/"] if len(around.parts) == 2 and around.name not in {"tmp", "home"} else [])
    index = r"https?://[^ \"]+/(simple|packages)/|--(extra-)?index" + r"-url|--find" + r"-links|file:/" + r"//"
    pattern = re.compile("|".join([*map(re.escape, places), index]))
    found = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        relative = path.relative_to(ROOT)
        found += [f"{relative}: {match.group()}" for match in pattern.finditer(text)]
        if path.suffix == ".py" and ".." + "/shared" in text:
            found.append(f"{relative}: needs a folder outside the repository")
    assert not found, "\n".join(found)


def test_wheel_holds_only_fashionflow(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (archive.read(n).decode() for n in names if n.endswith(".dist-info/entry_points.txt"))
    tops = {name.split("/")[0] for name in names}
    info = {top for top in tops if top.startswith("fashionflow-") and top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == {name for name, folder in PACKAGES.items() if folder.is_dir()}
    assert "fashionflow = fashionflow_cli.main:main" in entry_points
    assert {f"{next(iter(info))}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= set(names)
    shipped = {name for name in names if name.split("/")[0] in PACKAGES}
    wanted = {
        path.relative_to(folder.parent).as_posix()
        for folder in PACKAGES.values()
        for path in _tracked()
        if path.is_relative_to(folder)
    }
    assert shipped == wanted


def _fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


HEAVY = ("torch", "diffusers", "transformers", "av", "onnx", "numpy")


def test_import_of_core_is_light():
    code = f"import sys, fashionflow_core; print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    assert _fresh(code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", [(), ("generate",), ("models",), ("data",), ("bench",), ("train",), ("export",)], ids=" ".join
)
def test_help_needs_no_torch(command: tuple[str, ...]):
    code = (
        f"import sys; sys.argv = ['fashionflow', *{command!r}, '--help']\n"
        "from fashionflow_cli.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(sorted(set(sys.modules) & {set(HEAVY)!r}), file=sys.stderr)"
    )
    result = _fresh(code)
    assert "Usage" in result.stdout
    assert result.stderr.strip().splitlines()[-1] == "[]"


def test_help_loads_few_modules():
    """Start-up time is import time: 374 modules, half of them those of the terminal library, take 0.4 s on a laptop."""
    code = (
        "import sys; sys.argv = ['fashionflow', '--help']\n"
        "from fashionflow_cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(len(sys.modules), file=sys.stderr)"
    )
    assert int(_fresh(code).stderr.split()[-1]) < 450


def test_the_tree_of_the_architecture_page_is_current():
    assert architecture_tree.PAGE.read_text(encoding="utf-8") == architecture_tree.page(), (
        "run: python scripts/architecture_tree.py --write"
    )
