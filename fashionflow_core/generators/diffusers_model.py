"""Pipelines of diffusers: safe loading, calls with their own arguments, checks of their frames."""

import contextlib
import gc
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashionflow_core.config import LoadOptions, ResolvedSettings
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, OutOfMemory, SettingError, option
from fashionflow_core.generators import offload
from fashionflow_core.generators.config import OWN_SCHEDULER, GeneratorConfig
from fashionflow_core.generators.families import family_of
from fashionflow_core.generators.folder import (
    check_folder,
    check_packages,
    components,
    device_bytes,
    is_network,
    is_of_pipelines,
    weights_bytes,
)
from fashionflow_core.generators.lora import add_lora
from fashionflow_core.utils.device import resolve_device, resolve_dtype
from fashionflow_core.utils.libraries import quiet_libraries
from fashionflow_core.utils.memory import is_out_of_memory
from fashionflow_core.utils.model_parts import HINT, open_network, parameters

OnStep = Callable[[int, int], None]
# What pipelines raise; what `on_step` raises to end a run is of none of these kinds.
_FAILURES = (ValueError, TypeError, RuntimeError, AttributeError, NameError, LookupError, AssertionError, ImportError)
_DENOISERS = ("transformer", "transformer_2", "unet")


class DiffusersModel:
    """An opened pipeline.

    Args:
        folder: in diffusers' layout.
        config: of `folder.config_of`.
        options: how it is opened; `lora` is a safetensors file, or a folder with one.

    Raises:
        UsageError: a device, dtype or backend that it cannot have.
        FashionFlowError: packages are missing, or the folder is broken, unsafe or of an unknown class.

    Attributes:
        device, dtype: where and in which number type the denoiser runs.
        rung: of `offload.RUNGS`; lower ones are taken when memory runs out.
        weights_bytes: of all networks, as stored.
    """

    def __init__(self, folder: Path, config: GeneratorConfig, options: LoadOptions = LoadOptions()) -> None:
        if options.backend not in ("auto", "torch"):
            raise SettingError(
                "backend",
                f"{config.name} is a pipeline of diffusers, which runs in PyTorch alone",
                hint=f"leave {option('backend')} out",
            )
        self.folder, self.config, self.options = folder, config, options
        self.index = check_folder(folder)
        check_packages(folder, config.name)
        self.family = family_of(self.index)
        self.device = resolve_device(options.device)
        self.dtype = resolve_dtype(options.dtype, self.device)
        self.weights_bytes = sum(weights_bytes(folder).values())
        self._kind = self._pipeline_class()
        self._accepted = inspect.signature(self._kind.__call__).parameters
        self._check_signature()
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None
        self.rung = offload.expected_rung(device_bytes(folder, self.dtype.itemsize), free)
        if options.low_memory and self.device.type != "cpu" and self.rung == offload.NONE:
            self.rung = offload.MODEL
        self._pipe: Any = self._open()

    def generate(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
        on_step: OnStep,
    ) -> tuple[list[np.ndarray], float]:
        """Generate clips in one call of the pipeline.

        Args:
            photos: uint8 (h, w, 3), all of one size that the model generates; several only where `config.takes_lists`.
            requests: resolved for this model, one per photo. Only texts may differ in what the pipeline is given.
            generators: on the CPU, one per photo; all randomness of its clip is drawn from it.
            on_step: called after each step with (steps done, steps in all).

        Returns:
            A clip per photo, uint8 (n, h, w, 3), and their frame rate.

        Raises:
            OutOfMemory: with one photo, on the last rung of the ladder, too; with several, at once: fewer may fit.
            FashionFlowError: it returned no finite numbers, or failed.
        """
        states = [generator.get_state() for generator in generators]
        while True:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            try:
                return self._run(photos, requests, generators, on_step), self.config.fps
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of `except`: the error's traceback holds tensors.
            if len(photos) > 1:
                self._pipe.maybe_free_model_hooks()  # networks that are on the GPU for their turn leave it
                raise OutOfMemory(
                    f"{self.device}: out of memory while {self.config.name} generated {len(photos)} clips at a time",
                    hint="generate fewer at a time",
                )
            self._step_down(requests[0])

    def count_parameters(self) -> dict[str, int]:
        """Parameters of each network, as its safetensors state them."""
        return {part: parameters(self.folder / part) for part in weights_bytes(self.folder)}

    def _step_down(self, request: ResolvedSettings) -> None:
        lower = offload.next_rung(self.rung)
        if lower is None or self.device.type == "cpu":
            raise OutOfMemory(
                f"{self.device}: out of memory while {self.config.name} generated {request.frames} frames",
                hint=f"use fewer {option('frames')}, a smaller {option('megapixels')} or another {option('device')}",
            )
        warnings.warn(
            f"{self.config.name}: out of memory with offload {self.rung}; reopening it with offload {lower}",
            FashionFlowWarning,
            stacklevel=4,
        )
        self.rung = lower
        self._pipe = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._pipe = self._open()

    def _run(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
        on_step: OnStep,
    ) -> list[np.ndarray]:
        pipe, asked = self._pipe, self._arguments(photos, requests, generators)
        request, own = requests[0], pipe.scheduler
        if request.scheduler != OWN_SCHEDULER:
            pipe.scheduler = self._scheduler(request.scheduler, own)
        # Every pipeline counts its steps on this bar, also those without a callback.
        pipe.progress_bar = lambda iterable=None, total=None: _Steps(request.steps, on_step)
        try:
            with torch.inference_mode(), quiet_libraries():
                made = pipe(**asked)
        except _FAILURES as error:
            if is_out_of_memory(error) or "CUDA error" in str(error):  # the ladder's, and a lost device's
                raise
            raise FashionFlowError(
                f"{self.config.name}: {self._kind.__name__} failed: {' '.join(str(error).split())[:200]}",
                hint=f"try other {option('frames')} or {option('size')}; FASHIONFLOW_DEBUG=1 shows where",
            ) from error
        finally:
            pipe.scheduler = own
        return [self._pixels(np.asarray(clip)) for clip in made.frames]

    def _pixels(self, clip: np.ndarray) -> np.ndarray:
        """A clip with values in 0..1 as uint8."""
        if clip.dtype == np.uint8:
            return clip
        if not np.isfinite(clip).all():
            raise FashionFlowError(
                f"{self.config.name}: generated values are not finite",
                hint=f"use {option('dtype', 'bf16')} or {option('dtype', 'fp32')}",
            )
        return (clip * 255).round().clip(0, 255).astype(np.uint8)

    def _arguments(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Any]:
        request, family = requests[0], self.family
        every = [one.generator for one in requests if one.generator is not None]
        if len(every) < len(requests):
            raise ValueError("the request was resolved for a model of FashionFlow")
        asked = every[0]
        height, width = photos[0].shape[:2]

        def listed(values: list[Any]) -> Any:
            return values if len(photos) > 1 else values[0]

        values: dict[str, Any] = {
            "image": listed([Image.fromarray(photo) for photo in photos]),
            "prompt": listed([one.prompt for one in every]),
            "negative_prompt": listed([one.negative_prompt for one in every]),
            "height": height,
            "width": width,
            "num_frames": request.frames,
            "frames": request.frames,
            "num_inference_steps": request.steps,
            family.guidance_argument: asked.guidance,
            family.rate_argument or "fps": int(family.fps) if family.rate_argument else None,
            "generator": listed(list(generators)),
            "output_type": "np",
            **family.arguments,
        }
        return {name: value for name, value in values.items() if name in self._accepted and value is not None}

    def _pipeline_class(self) -> Any:
        import diffusers

        kind = getattr(diffusers, self.config.pipeline, None)
        if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
            raise FashionFlowError(
                f"{self.config.name}: diffusers {diffusers.__version__} has no pipeline {self.config.pipeline[:80]}",
                hint="update diffusers, or choose a model of docs/guides/models.md",
            )
        return kind

    def _check_signature(self) -> None:
        """Refuse a pipeline with required arguments that are unknown here; warn of one that no test runs."""
        name, accepted = self._kind.__name__, self._accepted
        if "image" not in accepted:
            raise FashionFlowError(
                f"{self.config.name}: {name} takes no photo", hint="choose a model of docs/guides/models.md"
            )
        given = {"self", "image", "prompt", "height", "width", "num_frames", "frames"}
        wanted = [
            key
            for key, parameter in accepted.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        if lacking := [key for key in wanted if key not in given]:
            raise FashionFlowError(
                f"{self.config.name}: {name} needs {', '.join(lacking)}, which a photo cannot provide",
                hint="choose a model of docs/guides/models.md",
            )
        if not self.family.is_tested:
            warnings.warn(
                f"{self.config.name}: {name} is not tested; it is called by its signature",
                FashionFlowWarning,
                stacklevel=4,
            )

    def _open(self) -> Any:
        """The pipeline with all its networks, on its rung."""
        remarks: list[str] = []  # warnings are off while libraries work
        try:
            with quiet_libraries():
                networks = {
                    name: self._open_part(name, library, kind)
                    for name, (library, kind) in components(self.index)
                    if is_network(self.folder / name)
                }
                pipe: Any = self._kind.from_pretrained(
                    str(self.folder), local_files_only=True, use_safetensors=True, **networks
                )
                pipe.set_progress_bar_config(disable=True)
                if self.options.lora is not None:
                    remarks += add_lora(pipe, Path(self.options.lora), self.config.name)
                # AttributeError: a VAE without tiling; NotImplementedError: raised by diffusers for the VAE of SVD.
                for method in ("enable_tiling", "enable_slicing"):  # of the frame, and of a batch
                    with contextlib.suppress(NotImplementedError, AttributeError):
                        getattr(pipe.vae, method)()
                _decode_one_by_one(pipe)
                remarks += self._choose_attention(pipe)
                if self.options.compile:
                    for network in filter(None, (getattr(pipe, name, None) for name in _DENOISERS)):
                        _compile(network)
                offload.place(pipe, self.rung, self.device)
        except FashionFlowError:
            raise
        except Exception as error:  # either library raises any kind for a folder that is wrong
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"{self.device}: out of memory while opening {self.config.name}",
                    hint=f"use {option('low_memory', True)} or another {option('device')}",
                ) from None
            text = " ".join(str(error).split())[:200]
            if isinstance(error, ImportError):
                raise FashionFlowError(f"{self.config.name}: {text}", hint="install what the message names") from error
            raise FashionFlowError(
                f"{self.folder}: cannot be opened ({type(error).__name__}: {text})", hint=HINT
            ) from error
        for line in remarks:
            warnings.warn(line, FashionFlowWarning, stacklevel=4)
        return pipe

    def _open_part(self, name: str, library: str, kind: str) -> Any:
        of_pipelines = is_of_pipelines(library)
        module: Any = importlib.import_module(f"diffusers.pipelines.{library}" if of_pipelines else library)
        network = getattr(module, kind, None)
        if not (isinstance(network, type) and issubclass(network, torch.nn.Module)):
            raise FashionFlowError(
                f"{self.folder / name}: {library} has no network {kind[:80]}",
                hint=f"update it: pip install -U {'diffusers' if of_pipelines else library}",
            )
        dtype = torch.float32 if name in self.family.full_precision else self.dtype
        opened, report = open_network(network, self.folder / name, **{_dtype_argument(library): dtype})
        # Tied weights are stored once, and reported by neither library as missing.
        if missing := sorted(map(str, report.get("missing_keys", ()))):
            raise FashionFlowError(
                f"{self.folder / name}: weights are missing: {', '.join(missing[:3])}", hint="pull the model again"
            )
        return opened.eval()

    def _choose_attention(self, pipe: Any) -> list[str]:
        """FlashAttention where GPU, number type and an installed package allow it, else PyTorch's own choice.

        Returns:
            Why it is not used where it should be, one line a denoiser.
        """
        found = []
        if (backend := attention_backend(self.device, self.dtype)) is not None:
            for network in filter(None, (getattr(pipe, name, None) for name in _DENOISERS)):
                try:
                    network.set_attention_backend(backend)
                except Exception as error:
                    text = " ".join(str(error).split())[:200]
                    found.append(f"attention backend {backend} is not used: {text}")
        return found

    def _scheduler(self, name: str, own: Any) -> Any:
        """Another sampler on the noise schedule of the folder's own."""
        import diffusers

        kind: Any = getattr(diffusers, self.family.schedulers[name])
        shift = own.config.get("flow_shift", own.config.get("shift"))
        flow = {"shift": shift, "flow_shift": shift} if shift is not None else {}
        if shift is not None and "use_flow_sigmas" in inspect.signature(kind.__init__).parameters:
            flow |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        accepted = inspect.signature(kind.__init__).parameters
        return kind.from_config(own.config, **{key: value for key, value in flow.items() if key in accepted})


class _Steps:
    """Replacement of a pipeline's progress bar: reports each step to a callback, which may raise to end the run."""

    def __init__(self, total: int, on_step: OnStep) -> None:
        self.total, self.done, self.on_step = total, 0, on_step

    def __enter__(self) -> "_Steps":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.total))

    def update(self, count: int = 1) -> None:
        if self.done < self.total:  # a second-order sampler calls more often
            self.done = min(self.total, self.done + count)
            self.on_step(self.done, self.total)


def attention_backend(device: torch.device, dtype: torch.dtype) -> str | None:
    """diffusers' name of the attention that this GPU and the installed packages allow; None: PyTorch's own.

    Kernels that would have to be downloaded are not used.
    """
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability[0] == 9 and importlib.util.find_spec("flash_attn_interface"):  # FlashAttention 3 is for Hopper
        return "_flash_3"
    return "flash" if capability >= (8, 0) and importlib.util.find_spec("flash_attn") else None


def _decode_one_by_one(pipe: Any) -> None:
    """Decode each clip of a batch as it is decoded alone.

    The VAE of Stable Video Diffusion sees a few frames at a time, across all clips: it would mix the end of one with
    the beginning of the next.
    """
    decode = getattr(pipe, "decode_latents", None)
    if decode is not None:
        pipe.decode_latents = lambda latents, *values, **named: torch.cat(
            [decode(one, *values, **named) for one in latents.split(1)]
        )


def _compile(network: Any) -> None:
    try:
        network.compile_repeated_blocks()
    except ValueError:  # it names none
        network.compile()


def _dtype_argument(library: str) -> str:
    return "dtype" if library == "transformers" else "torch_dtype"
