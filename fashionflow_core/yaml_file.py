"""YAML files of settings, read with errors that a user can mend."""

from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, UsageError


def read_mapping(path: str | Path) -> dict[Any, Any]:
    """The settings of a YAML file; an empty one has none.

    Raises:
        FashionFlowError: the file cannot be read or is not YAML.
        UsageError: it is no mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise FashionFlowError(
            f"{path}: is not a readable YAML file ({reason})", hint="one `name: value` a line"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: is not a mapping of settings", hint="write one `name: value` a line")
    return content
