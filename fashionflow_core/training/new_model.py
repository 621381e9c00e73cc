"""New model folder: VAE and CLIP of any source, with a fresh U-Net and adapter in the form of a training preset."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError, SettingError, UsageError, command, option
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.store import registry
from fashionflow_core.store.folder import atomic_folder, check_target, is_model
from fashionflow_core.store.network_sources import CLIP_FOLDERS, VAE_FOLDERS, open_part
from fashionflow_core.store.published import published_config
from fashionflow_core.training import build
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.presets import PRESETS
from fashionflow_core.training.schedules import noise_scheduler
from fashionflow_core.training.settings import load_config
from fashionflow_core.utils.libraries import quiet_libraries
from fashionflow_core.utils.model_parts import check_processor

NEW_MODEL_PRESETS = tuple(name for name, values in PRESETS.items() if values.get("target", "unet") == "unet")


@dataclass(frozen=True)
class NewModelOptions:
    """Form of a new model.

    Attributes:
        vae, clip: folder, hub id or name of a model; empty: the networks of `models pull base`.
        preset: one of `NEW_MODEL_PRESETS`.
        settings: training settings `key=value` that override the preset's, such as `unet.widths=8,16`.
        size: height and width in pixels; None: those of the VAE's model folder, or 640x512 (paper 4.3).
        frames: frames of a clip; 0: those of the VAE's model folder, or 70 (paper 4.3).
        overwrite: replace an existing model folder.
    """

    vae: str = ""
    clip: str = ""
    preset: str = "paper"
    settings: Sequence[str] = ()
    size: tuple[int, int] | None = None
    frames: int = 0
    overwrite: bool = False


def new_model(
    name: str,
    out: str | Path | None = None,
    options: NewModelOptions = NewModelOptions(),
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write a model folder whose U-Net and adapter have random weights, to train from.

    Args:
        name: name in model.json; also of the folder in the models folder if `out` is None.
        out: the folder, written as a whole or not at all.
        report: called with one line per stage.

    Returns:
        The folder.

    Raises:
        UsageError: an unknown preset, or a size that the networks cannot have.
        FashionFlowError: no such source, networks that do not fit, or an unusable target.
    """
    if options.preset not in NEW_MODEL_PRESETS:
        raise SettingError(
            "preset", f"unknown preset {options.preset!r}", hint=f"use one of: {', '.join(NEW_MODEL_PRESETS)}"
        )
    config = load_config(None, [f"preset={options.preset}", *options.settings])
    if out is None and registry.check_name(name) in (*registry.KNOWN, *registry.NETWORKS_BESIDE):
        raise FashionFlowError(
            f"{name}: name of another model", hint=f"choose another one, or a folder: {option('out', 'FOLDER')}"
        )
    target = Path(out) if out is not None else registry.models_home() / name
    check_target(target, options.overwrite)
    sources = {key: _source(key, value) for key, value in (("vae", options.vae), ("clip", options.clip))}
    with quiet_libraries():
        report(f"opening the VAE of {sources['vae']}")
        vae = _open_vae(sources["vae"])
        report(f"opening the image encoder of {sources['clip']}")
        encoder = _open_clip(sources["clip"])
        conventions = _conventions(sources["vae"], vae, options, config)
        model = _model_config(config, conventions, name, options.preset)
        report(f"drawing fresh networks from seed {config.seed}")
        parts = _fresh(config, model, vae, encoder) | {
            "vae": vae,
            "image_encoder": encoder,
            "scheduler": noise_scheduler(config.noise, None),
            "feature_extractor": _processor(sources["clip"], encoder),
        }
        with atomic_folder(target) as folder:
            for part, network in parts.items():
                network.save_pretrained(folder / part)
            (folder / MODEL_FILE).write_text(model.to_json(), encoding="utf-8")
    return target


def _source(key: str, asked: str) -> str:
    """A folder or hub id from what was asked for; a model's name becomes its folder.

    Raises:
        FashionFlowError: nothing was asked for, and `base` is not installed.
    """
    if not asked:
        base = registry.pulled_network(registry.BASE)
        if base is None:
            raise FashionFlowError(
                f"{option(key)}: not set, and the networks of the paper are not installed",
                hint=f"fetch them: {command('models pull', registry.BASE)}; or name a folder or hub id",
            )
        return str(base)
    known = {entry.name: entry.path for entry in registry.list_models() if entry.path is not None}
    return str(known.get(asked, asked))


def _open_vae(source: str) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return open_part(AutoencoderKL, "vae", source, VAE_FOLDERS, registry.KNOWN[registry.PUBLISHED].parts["vae"])


def _open_clip(source: str) -> Any:
    from transformers import CLIPVisionModel

    return open_part(CLIPVisionModel, "clip", source, CLIP_FOLDERS, registry.KNOWN[registry.PUBLISHED].parts["clip"])


def _processor(source: str, encoder: Any) -> Any:
    """CLIP's preprocessing: that of the source if it has one, else OpenAI's constants at the encoder's size."""
    from transformers import CLIPImageProcessorPil

    for place in (Path(source) / "feature_extractor", Path(source)):
        if (place / "preprocessor_config.json").is_file():
            check_processor(place)
            return CLIPImageProcessorPil.from_pretrained(place, local_files_only=True)
    side = encoder.config.image_size
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _conventions(source: str, vae: Any, options: NewModelOptions, config: TrainConfig) -> ModelConfig:
    """Geometry, pixel range and latent statistics: of the VAE's model folder, else of Stable Diffusion and the paper.

    Raises:
        UsageError: a size or number of frames that VAE and U-Net cannot have.
    """
    if is_model(Path(source)):
        base = ModelConfig.load(source)
    elif options.preset == "published":
        base = published_config()
    else:
        scale, channels = float(vae.config.scaling_factor), int(vae.config.latent_channels)
        base = dataclasses.replace(
            published_config(),
            fit="pad",
            resample="lanczos",
            vae_range="minus_one_one",
            vae_sample=False,
            clip_rescale_twice=False,
            latents_mean=(float(vae.config.shift_factor or 0.0),) * channels,
            latents_std=(1 / scale,) * channels,
        )
    height, width = options.size or (base.height, base.width)
    frames = options.frames or base.frames
    # The adapter pools latents 2x2; every level of the U-Net halves them, the innermost also the frames.
    levels = max(1, len(config.unet.widths))
    unit = base.vae_patch_size * 2 ** (len(vae.config.block_out_channels) - 1) * 2**levels
    if height % unit or width % unit:
        fitting = "x".join(str(-(-side // unit) * unit) for side in (height, width))
        raise SettingError(
            "size",
            f"{height}x{width}: both sides must be multiples of {unit} for these networks",
            hint=f"set {option('size', fitting)}, or fewer levels with unet.widths and unet.cross_heads",
        )
    if frames % 2:
        raise SettingError("frames", f"must be even (the U-Net halves the frames), not {frames}")
    return dataclasses.replace(base, height=height, width=width, frames=frames)


def _model_config(config: TrainConfig, conventions: ModelConfig, name: str, preset: str) -> ModelConfig:
    """model.json of untrained networks in the form of a preset."""
    purpose = f"untrained networks of preset {preset}: its videos are noise until it is trained"
    # Statistics of a cache are known only in training, which writes them to its result.
    data = dataclasses.replace(config.data, latent_statistics="base")
    asked = dataclasses.replace(config, name=name, purpose=purpose, data=data)
    return build.model_config(asked, conventions, name, None)


def _fresh(config: TrainConfig, model: ModelConfig, vae: Any, encoder: Any) -> dict[str, Any]:
    """U-Net and adapter with random weights from (seed), as `train` draws them."""
    channels, width = int(vae.config.latent_channels), int(encoder.config.hidden_size)
    if channels != len(model.latents_std):
        raise UsageError(f"model.json of the VAE's folder has {len(model.latents_std)} latent channels, not {channels}")
    shrink = model.vae_patch_size * 2 ** (len(vae.config.block_out_channels) - 1)
    with torch.device("meta"):
        form = FashionFlowUNet(out_channels=channels, in_channels=channels, cross_attention_dim=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        unet = build.fresh_unet(config.unet, form, channels + build.known_channels(model.known_content, channels))
        adapter = ImageContextAdapter(
            latent_channels=channels,
            latent_height=model.height // shrink,
            latent_width=model.width // shrink,
            clip_tokens=(encoder.config.image_size // encoder.config.patch_size) ** 2 + 1,
            clip_dim=width,
        )
    return {"unet": unet, "adapter": adapter}
