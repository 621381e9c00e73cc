"""TensorRT flavors: packages and Python modules."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fashionflow_core.errors import FashionFlowError, first_line
from fashionflow_core.utils import extras


@dataclass(frozen=True)
class Flavor:
    """One of NVIDIA's two TensorRT products.

    Attributes:
        name: name in export options and `engines.json`.
        module: Python module.
        extra: extra that installs it.
        title: official name.
    """

    name: str
    module: str
    extra: str
    title: str

    def load(self) -> Any:
        """Import its Python module.

        Raises:
            FashionFlowError: it is installed, but incomplete.
        """
        try:
            return import_module(self.module)
        except (ImportError, OSError) as error:
            raise FashionFlowError(
                f"{self.title} is installed, but fails to load ({first_line(error)})",
                hint=extras.install(self.extra, force=True),
            ) from None


FLAVORS = {
    "tensorrt": Flavor("tensorrt", "tensorrt", "trt", "TensorRT"),
    "rtx": Flavor("rtx", "tensorrt_rtx", "trt-rtx", "TensorRT-RTX"),
}
