"""HTML pages of folders: templates, and a policy by which a page loads only what lies beside it."""

import base64
import hashlib
import re
from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """A page from a Jinja template of a package, with all values escaped, locked down by `locked_down`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return locked_down(environment.get_template(template).render(**values))


def locked_down(page: str) -> str:
    """A page that may load only what lies beside it, and run only its own script (Content-Security-Policy)."""
    script = re.search("<script>(.*?)</script>", page, re.DOTALL)
    allowed = "'none'"
    if script:
        allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()}'"
    # Browsers differ in whether a page of a disk is its own 'self'; file: names what is on the disk.
    policy = (
        "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )
    charset = '<meta charset="utf-8">'
    return page.replace(charset, f'{charset}\n<meta http-equiv="Content-Security-Policy" content="{policy}">', 1)


def clean(value: Any) -> Any:
    """Text that UTF-8 can hold, without control characters: names of files and lines of manifests may have any."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # what a macro made is cleaned already
        return value
    return re.sub("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", value)
