"""The house rules, read from the files themselves: imports point one way, the wheel is clean, files stay short."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "fashionflow_cli": ROOT / "fashionflow_cli",
    "fashionflow_core": ROOT / "fashionflow_core",
    "fashionflow_export": ROOT / "export" / "fashionflow_export",
    "fashionflow_benchmarks": ROOT / "benchmarks" / "fashionflow_benchmarks",
}

# A module, or a package with all that is in it, and its floor (docs/architecture.md). A file that is not listed fails.
FLOORS = {
    "fashionflow_core": 0,  # the bare package: what every import of a part runs first
    "fashionflow_core.errors": 0,
    "fashionflow_core.config": 0,
    "fashionflow_core.files": 0,
    "fashionflow_core.json_file": 0,
    "fashionflow_core.flavors": 0,
    "fashionflow_core.device": 0,
    "fashionflow_core.priority": 0,
    "fashionflow_core.models.*": 1,
    "fashionflow_core.known": 1,
    "fashionflow_core.image": 1,
    "fashionflow_core.photo": 1,
    "fashionflow_core.photo_formats": 1,
    "fashionflow_core.srgb": 1,
    "fashionflow_core.foreground": 1,
    "fashionflow_core.video": 1,
    "fashionflow_core.video.*": 1,
    "fashionflow_core.color": 1,
    "fashionflow_core.contract": 1,
    "fashionflow_core.conventions": 1,
    "fashionflow_core.cost": 1,
    "fashionflow_core.schedulers": 2,
    "fashionflow_core.sampling": 2,
    "fashionflow_core.plan": 2,
    "fashionflow_core.conditioning": 2,
    "fashionflow_core.metrics.*": 2,
    "fashionflow_core.backends.*": 2,
    "fashionflow_core.data.*": 3,
    "fashionflow_core.clip": 2,
    "fashionflow_core.detail": 2,
    "fashionflow_core.denoising": 2,
    "fashionflow_core.decoding": 2,
    "fashionflow_core.interpolation": 2,
    "fashionflow_core.first_use": 3,
    "fashionflow_core.pipeline": 3,
    "fashionflow_core.checkpoint": 4,
    "fashionflow_core.registry": 4,
    "fashionflow_core.api": 4,
    "fashionflow_core.download": 1,
    "fashionflow_core.model_folder": 1,
    "fashionflow_core.hub": 4,
    "fashionflow_core.pull": 4,
    "fashionflow_core.doctor.*": 5,
    "fashionflow_core.training.*": 4,
    "fashionflow_core.lora": 3,
    "fashionflow_core.betas": 1,
    "fashionflow_core.drawing": 1,
    "fashionflow_core.yaml_file": 1,
    "fashionflow_core.catalogue.*": 4,
    "fashionflow_core.evaluate.*": 5,
    "fashionflow_export.*": 5,
    "fashionflow_benchmarks.*": 5,
    "fashionflow_cli.*": 6,
}
LINES = 350
# What an extra brings; everything else that shipped code imports must be a base dependency.
EXTRA_MODULES = frozenset(
    (
        "accelerate",
        "matplotlib",
        "onnxruntime",
        "onnxscript",
        "peft",
        "pillow_heif",
        "polygraphy",
        "ray",
        "scipy",
        "tensorrt",
        "tensorrt_rtx",
    )
)


def _module(package: str, path: Path) -> str:
    parts = path.relative_to(PACKAGES[package].parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    return {_module(name, path): path for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))}


def _floor(module: str) -> int | None:
    """The floor of the longest entry that names `module` or a package around it."""
    if module in FLOORS:
        return FLOORS[module]
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        floor = FLOORS.get(".".join(parts[:length]) + ".*")
        if floor is not None:
            return floor
    return None


def _folder(module: str) -> str:
    path = _modules()[module]
    return str(path.parent)


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


def _ours(module: str) -> set[str]:
    """The modules of this project that `module` imports, without itself."""
    return {name for name in _imports(_modules()[module], module) if name.split(".")[0] in PACKAGES} - {module}


def test_every_file_has_a_floor():
    assert not [name for name in _modules() if _floor(name) is None], "give new files a floor, here and in the docs"


def test_imports_point_downwards():
    wrong = []
    for module in _modules():
        own = _floor(module)
        for target in _ours(module):
            assert target in _modules(), f"{module} imports {target}, which does not exist"
            floor = _floor(target)
            assert own is not None and floor is not None
            if not (floor < own or (floor == own and _folder(target) == _folder(module))):
                wrong.append(f"{module} (floor {own}) imports {target} (floor {floor})")
    assert not wrong, "\n".join(wrong)


def test_no_circles():
    graph = {module: _ours(module) for module in _modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_core_stands_alone_and_siblings_do_not_meet():
    for module in _modules():
        home = module.split(".")[0]
        others = {target.split(".")[0] for target in _ours(module)} - {home}
        allowed = {"fashionflow_core": set(), "fashionflow_cli": set(PACKAGES)}.get(home, {"fashionflow_core"})
        assert others <= allowed, f"{module} imports {others - allowed}"


def test_literal_formulation_is_independent():
    """What the networks are compared with may not share a line with them."""
    assert _ours("fashionflow_benchmarks.literal") == set()


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
    wanted = [line for extra in ("dev", "train", "ray", "s3") for line in extras[extra]]
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


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): count
        for path in _tracked()
        if path.suffix == ".py" and (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES
    }
    assert not long, f"above {LINES} lines: {long}"


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


def test_help_is_quick():
    """Under half a second of processor time, the best of five: beside other work the clock says nothing about ours."""
    resource = pytest.importorskip("resource", reason="processor time of children is counted on Unix alone")

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(5):
        before = spent()
        command = [sys.executable, "-c", "from fashionflow_cli.main import main; main()", "--help"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        times.append(spent() - before)
    assert min(times) < 0.5
