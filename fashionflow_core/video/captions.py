"""Caption templates: `{price}` is replaced by the item's value of the column `price`."""

import re
from collections.abc import Mapping

from fashionflow_core.errors import SettingError

COLUMN = re.compile(r"\{([^{}]*)\}")


def columns_of(template: str) -> tuple[str, ...]:
    """Columns of a template, in lower case with `_` for `-`."""
    return tuple(dict.fromkeys(_key(found) for found in COLUMN.findall(template)))


def filled(template: str, values: Mapping[str, str]) -> str:
    """The caption of one item.

    Raises:
        UsageError: the item has no value for a column.
    """

    def value(found: "re.Match[str]") -> str:
        name = _key(found[1])
        if name not in values:
            known = ", ".join(sorted(values))
            raise SettingError(
                "caption", f"this photo has no {{{name}}}", hint=f"available: {known}; columns of a list add more"
            )
        return values[name]

    return COLUMN.sub(value, template).strip()


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_")
