"""FashionFlow from Python: `import fashionflow_core as ff; ff.load().generate("dress.jpg").save("dress.mp4")`.

Names come from their modules when they are first asked for, so that importing this package imports nothing heavy.
`__init__.pyi` tells type checkers the same. docs/guides/python.md is the guide.
"""

from importlib import import_module
from typing import Any

# name → the module of this package that it comes from
_HOME = {
    "load": "pipeline",
    "list_models": "store.registry",
    "Clip": "pipeline",
    "FashionFlowPipeline": "pipeline",
    "RunCost": "diffusion.cost_estimate",
    "EncodeOptions": "config",
    "EndCard": "video.overlays",
    "FinishOptions": "video.finishing",
    "GenerateSettings": "config",
    "LoadOptions": "config",
    "LogoOptions": "video.overlays",
    "ModelConfig": "config",
    "SigningOptions": "config",
    "FashionFlowError": "errors",
    "FashionFlowWarning": "errors",
    "UsageError": "errors",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fashionflow")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
