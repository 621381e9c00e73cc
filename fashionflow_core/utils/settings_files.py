"""YAML settings files of all commands: strict loading without ambiguous values."""

import re
import stat
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, UsageError, reason_of

_MAX_BYTES = 2**20  # settings files are kilobytes
_MAX_DEPTH = 20  # nested brackets
_HINT = "one `name: value` a line"
# A comment in place of a colour: `background: #ffffff`.
_BARE_COLOUR = re.compile(r"^[ \t]*([\w.-]+)[ \t]*:[ \t]+(#[0-9a-fA-F]{3,8})[ \t]*$", re.MULTILINE)


def read_mapping(path: str | Path) -> dict[Any, Any]:
    """Load the settings of a YAML file; an empty file has none.

    Raises:
        FashionFlowError: the file cannot be read or is not YAML.
        UsageError: not a mapping, or an ambiguous value.
    """
    import yaml

    text = _text(Path(path))
    if bare := _BARE_COLOUR.search(text):
        raise UsageError(
            f"{path}: {bare[1]}: {bare[2]} is a comment in YAML", hint=f'put it in quotes: {bare[1]}: "{bare[2]}"'
        )
    try:
        _check_depth(text)
        content = yaml.load(text, _loader())
    except _Ambiguous as error:
        raise UsageError(f"{path}: {error}", hint="write a plain decimal number, or put the text in quotes") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FashionFlowError(f"{path}: not a readable YAML file ({reason})", hint=_HINT) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a mapping of settings", hint=f"write {_HINT}")
    return content


class _Ambiguous(Exception):
    """A number that YAML reads differently from how it looks."""


def _text(path: Path) -> str:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise FashionFlowError(f"{path}: not a regular file", hint=_HINT)
        if info.st_size > _MAX_BYTES:
            raise FashionFlowError(f"{path}: too large for a settings file ({info.st_size / 1e6:.0f} MB)", hint=_HINT)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FashionFlowError(f"{path}: not a readable YAML file ({reason_of(error)})", hint=_HINT) from None


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _MAX_DEPTH:
            raise ValueError(f"brackets nested more than {_MAX_DEPTH} deep")


def _loader() -> Any:
    """PyYAML's safe loader without aliases, octal numbers and numbers of base 60."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few nested ones expand to gigabytes
                raise ValueError("aliases (*name) are not supported")
            return super().compose_node(parent, index)

    def number(loader: Any, node: Any) -> Any:
        written = node.value.replace("_", "")
        if re.fullmatch(r"[-+]?0[0-9]+", written) or ":" in written:
            kind = "a number of base 60" if ":" in written else "an octal number"
            raise _Ambiguous(f"line {node.start_mark.line + 1}: {node.value} would be {kind}")
        if len(written) > 100:
            raise ValueError(f"a number of {len(written)} digits")
        convert = loader.construct_yaml_int if node.tag.endswith(":int") else loader.construct_yaml_float
        return convert(node)

    Loader.add_constructor("tag:yaml.org,2002:int", number)
    Loader.add_constructor("tag:yaml.org,2002:float", number)
    return Loader
