"""Folders in diffusers' layout: index, components, safety checks, sizes, missing packages.

Nothing here imports torch or diffusers, so that runs are planned and refused at once.
"""

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fashionflow_core.config import INDEX_FILE, MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.generators import remote_place
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.families import OTHER, Family, family_of
from fashionflow_core.utils.extras import install
from fashionflow_core.utils.frame_sizes import FrameSizes
from fashionflow_core.utils.model_parts import HINT, check_config, check_processor, check_scheduler, parameters
from fashionflow_core.utils.typed_files import read_object

SOURCE_FILE = "source.json"  # of a pulled folder: repository, commit, and size and hash of each file
EXTRA = "generators"
_LIBRARIES = ("diffusers", "transformers")
_TORCHVISION = "torchvision"  # in no extra: few pipelines need it
_CODE = (".py", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")  # code, and pickles, which run code


def is_pipeline(folder: str | Path) -> bool:
    """Whether a folder is in diffusers' layout, and not a model folder of FashionFlow."""
    return (Path(folder) / INDEX_FILE).is_file() and not (Path(folder) / MODEL_FILE).is_file()


def config_of(place: str | Path) -> ModelConfig:
    """Conventions of any model that can be opened: a model folder, a folder in diffusers' layout, a remote address.

    Raises:
        FashionFlowError: neither, or a file of it is broken.
    """
    if remote_place.is_remote(place):
        return remote_place.remote_config(place)
    return _described(Path(place)) if is_pipeline(place) else ModelConfig.load(place)


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json`, checked: it names classes of diffusers and transformers alone.

    Raises:
        FashionFlowError: it cannot be read, or a component would need code of the folder.
    """
    path = folder / INDEX_FILE
    try:
        index = read_object(path, HINT)
    except (FileNotFoundError, NotADirectoryError):
        raise FashionFlowError(f"{folder}: not in diffusers' layout (no {INDEX_FILE})", hint=HINT) from None
    if not isinstance(index.get("_class_name"), str):
        raise FashionFlowError(f"{path}: names no pipeline class (_class_name)", hint=HINT)
    for name, (library, kind) in components(index):
        if (
            not (library in _LIBRARIES or is_of_pipelines(library))
            or not kind.isidentifier()
            or Path(name).name != name
        ):
            raise FashionFlowError(
                f"{path}: {name[:80]!r} is {library[:80]}.{kind[:80]}, code of the folder, which is never run",
                hint="name a model whose components are classes of diffusers or transformers",
            )
    return index


def is_of_pipelines(library: str) -> bool:
    """Whether an index's library is a module of the installed `diffusers.pipelines`, as `ltx2` of LTX-2's vocoder."""
    found = importlib.util.find_spec("diffusers") if library.isidentifier() else None
    if found is None or found.origin is None:
        return False
    return (Path(found.origin).parent / "pipelines" / library).is_dir()


def components(index: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Components that an index names, with library and class; empty ones are left out."""
    for name, value in index.items():
        if isinstance(value, list) and not name.startswith("_"):
            if len(value) != 2 or value[0] is None or value[1] is None:
                continue
            yield name, (str(value[0]), str(value[1]))


def check_folder(folder: Path) -> dict[str, Any]:
    """Check everything that opening a folder would read, but for the weights themselves.

    Returns:
        Its index.

    Raises:
        FashionFlowError: a missing component, a config that loads code or describes an impossible network, weights as
            pickles alone.
    """
    index = read_index(folder)
    if (folder / "adapter_config.json").exists():
        raise FashionFlowError(f"{folder / 'adapter_config.json'}: adapters are not opened with a folder", hint=HINT)
    for name, _ in components(index):
        part = folder / name
        if not part.is_dir():
            raise FashionFlowError(f"{folder}: incomplete: {name}/ is missing", hint="pull or download the model again")
        code = sorted(file.name for file in part.iterdir() if file.suffix == ".py")
        if code:
            raise FashionFlowError(f"{part / code[0]}: code of the folder, which is never run", hint=HINT)
        if (part / "scheduler_config.json").is_file():
            check_scheduler(part)
        if (part / "preprocessor_config.json").is_file():
            check_processor(part)
        if not is_network(part):
            continue
        check_config(part)
        if not any(part.glob("*.safetensors")):
            pickled = any(file.suffix in _CODE for file in part.iterdir())
            raise FashionFlowError(
                f"{part}: no weights as safetensors" + (", only pickles, which are never opened" if pickled else ""),
                hint="download the model's safetensors; pickles can run code",
            )
    return index


def is_network(part: Path) -> bool:
    """Whether a component's folder holds a network: a config and, at least by its index, weights."""
    others = ("tokenizer_config.json", "scheduler_config.json", "preprocessor_config.json", "guider_config.json")
    return (part / "config.json").is_file() and not any((part / name).is_file() for name in others)


def weights_bytes(folder: Path) -> dict[str, int]:
    """Bytes of the safetensors files of each network, by component."""
    return {
        name: sum(file.stat().st_size for file in (folder / name).glob("*.safetensors"))
        for name, _ in components(read_index(folder))
        if is_network(folder / name)
    }


def device_bytes(folder: Path, size: int) -> dict[str, int]:
    """Bytes of each network once it is open, by component; only headers of weights are read.

    Args:
        folder: in diffusers' layout.
        size: bytes of a number; 2 of bf16. Some components of a family are opened in float32 whatever is asked for.

    Raises:
        FashionFlowError: not safetensors.
    """
    full = family_of(read_index(folder)).full_precision
    return {part: parameters(folder / part) * (4 if part in full else size) for part in weights_bytes(folder)}


def missing_packages(folder: Path) -> list[str]:
    """Packages that the pipeline needs and this Python lacks; without them it fails in mid-run."""
    index = read_index(folder)
    needed = {*family_of(index).packages, "accelerate"}
    for name, (_, kind) in components(index):
        part = folder / name
        if "Tokenizer" in kind and (part / "spiece.model").is_file() and not (part / "tokenizer.json").is_file():
            needed |= {"sentencepiece", "google.protobuf"}
        if "VLProcessor" in kind:  # of Qwen2-VL, as Kandinsky 5 has one
            needed.add(_TORCHVISION)
    return sorted(name for name in needed if not _is_installed(name))


def check_packages(folder: Path, name: str) -> None:
    """Refuse a model whose packages are missing, before anything is loaded.

    Raises:
        FashionFlowError: names them, and the command that installs them.
    """
    if missing := missing_packages(folder):
        raise FashionFlowError(f"{name}: needs {', '.join(missing)}, not installed", hint=how_to_install(missing))


def how_to_install(missing: Sequence[str]) -> str:
    """The command that installs missing packages."""
    of_extra = [install(EXTRA)] if set(missing) - {_TORCHVISION} else []
    return " && ".join([*of_extra, *([f"pip install {_TORCHVISION}"] if _TORCHVISION in missing else [])])


def source_of(folder: Path) -> tuple[str, str]:
    """Repository and commit that a folder was pulled from, as `source.json` or the hub's cache states, else empty."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return str(source["repo"]), str(source["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    place = folder.absolute()
    if place.parent.name == "snapshots" and place.parents[1].name.startswith("models--"):
        return place.parents[1].name.removeprefix("models--").replace("--", "/", 1), place.name
    return "", ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _described(folder: Path) -> GeneratorConfig:
    """What is known of a folder from its index, the configs of its components, and its family."""
    index = read_index(folder)
    family = family_of(index)
    sizes, frames = _sizes(folder, family), _frames(folder, family)
    side = math.isqrt(sizes.pixels)
    height, width = sizes.nearest(side, side)
    repo, revision = source_of(folder)
    name = folder.absolute().name if not repo or folder.absolute().name != revision else repo.split("/")[-1]
    return GeneratorConfig(
        name=name,
        purpose=f"{family.title}: a pipeline of diffusers, video from a photo{' and text' * family.takes_prompt}; "
        f"licence of the weights: {family.licence}",
        height=height,
        width=width,
        frames=frames,
        fps=family.fps,
        latents_mean=(),
        latents_std=(),
        steps=family.steps,
        latents="frames",
        lock="full",
        family=family.title if family is not OTHER else str(index["_class_name"]),
        pipeline=family.classes.get(str(index["_class_name"]), str(index["_class_name"])),
        frame_step=family.frame_step,
        longest=max(family.longest, frames),
        sizes=sizes,
        guidance=family.guidance,
        takes_prompt=family.takes_prompt,
        schedulers=tuple(family.schedulers),
        takes_lists=_takes_lists(folder, family),
        licence=family.licence,
        is_restricted=family.is_restricted,
        is_tested=family.is_tested,
        repo=repo,
        revision=revision,
    )


def _takes_lists(folder: Path, family: Family) -> bool:
    if family.one_if is None:
        return family.takes_lists
    part, key = family.one_if
    return family.takes_lists and not _part(folder, part).get(key)


def _part(folder: Path, *names: str) -> Mapping[str, Any]:
    """The config of the first of these components that the folder has."""
    for name in names:
        if (folder / name / "config.json").is_file():
            return read_object(folder / name / "config.json", HINT)
    return {}


def _sizes(folder: Path, family: Family) -> FrameSizes:
    network, vae = _part(folder, "transformer", "unet"), _part(folder, "vae")
    target = network.get("target_size")
    if family.guidance is None and isinstance(target, int):
        step = vae.get("spatial_compression_ratio")
        return FrameSizes(target * target, step if isinstance(step, int) else family.divisor, bucket=target)
    if network.get("use_learned_positional_embeddings") is True:  # CogVideoX-5b-I2V has one size alone
        scale = 2 ** (len(vae.get("block_out_channels", ())) - 1) if vae.get("block_out_channels") else 8
        height, width = (int(network.get(f"sample_{side}", 0)) * scale for side in ("height", "width"))
        if height > 0 and width > 0:
            return FrameSizes(height * width, family.divisor, fixed=(height, width))
    return FrameSizes(family.pixels, family.divisor)


def _frames(folder: Path, family: Family) -> int:
    """Frames by default; of Stable Video Diffusion and CogVideoX as their network's config states."""
    of_unet = _part(folder, "unet").get("num_frames")
    if isinstance(of_unet, int) and 1 < of_unet <= family.longest:
        return of_unet
    return family.frames
