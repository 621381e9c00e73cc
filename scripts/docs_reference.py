"""Reference pages of the documentation: commands, settings and JSON, generated from the code and the schemas.

    python scripts/docs_reference.py --write    # after an option, a settings field or a schema changed

Commands come from the Typer app; settings from the source of the dataclasses: annotation, default, docstring, comments;
JSON from `docs/reference/schemas/*.json` and from blocks marked `json schema=NAME` in pages.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
SCHEMAS = REFERENCE / "schemas"
CORE = "fashionflow_core"
MADE = "<!-- generated: python scripts/docs_reference.py --write -->\n"

# Dataclasses that users set: heading, module, class, where its values come from.
SETTINGS = (
    ("Generation", "config", "GenerateSettings", "One request. `None`: as in the model's `model.json`."),
    ("Loading", "config", "LoadOptions", "How a model is opened."),
    ("Encoding", "config", "EncodeOptions", "How a video is encoded."),
    ("Finishing", "video/finishing", "FinishOptions", "Targets, canvas and overlays of a video."),
    ("Signing", "config", "SigningOptions", "Certificate and key of C2PA signatures."),
    ("model.json", "config", "ModelConfig", "Conventions that a model's weights depend on."),
    ("Catalogue", "catalogue/jobs", "RunSpec", "Settings shared by all items of a run."),
    ("Quality limits", "catalogue/quality_gate", "QualityLimits", "Limits of `--gate` and `--gate-limits`."),
    ("Evaluation", "evaluate/protocol", "Protocol", "Settings that determine an evaluation's numbers."),
)
TRAINING = "training/config"


# ---- commands ------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Help text without Rich's markup, on one line, safe inside a table."""
    text = re.sub(r"(?<!\\)\[/?(?:bold|dim|italic|cyan|green|yellow|red)\]", "", text).replace("\\[", "[")
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    """Markdown of plain text inside a table cell: no column breaks, no tags."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def code(text: str) -> str:
    """Code inside a table cell: a pipe needs an entity, which backticks do not take."""
    return f"<code>{text.replace('<', '&lt;').replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def walk(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(full name, command) of every command, groups resolved."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def default_of(parameter: Any) -> str:
    """The default that a parameter itself shows; others say it in their help text."""
    value = parameter.default
    if not parameter.show_default or value is None or isinstance(value, bool) or value in ((), [], ""):
        return ""
    return f" Default: `{value}`."


def parameter_row(parameter: Any) -> str:
    is_option = parameter.opts[0].startswith("-")
    if is_option:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    else:
        names = code(parameter.metavar or parameter.name.upper())
    metavar = (parameter.metavar or "") if is_option and not getattr(parameter, "is_flag", False) else ""
    shown = f"{names} {code(metavar)}" if metavar else names
    text = plain(getattr(parameter, "help", None) or "") + default_of(parameter)
    variable = f" Variable: `{parameter.envvar}`." if parameter.envvar else ""
    return f"| {shown} | {text}{variable} |"


def panel_of(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    return panel or ("Options" if parameter.opts[0].startswith("-") else "Arguments")


def examples_of(epilog: str | None) -> list[str]:
    """Command lines of an epilog."""
    lines = [line.strip() for line in (epilog or "").splitlines()]
    return [line for line in lines if line.startswith(("fashionflow ", "torchrun "))]


def commands_page() -> str:
    import typer

    from fashionflow_cli.main import app

    text = [MADE, "# Commands\n", "`fashionflow COMMAND --help` prints the same.\n"]
    for name, command in walk(typer.main.get_command(app), "fashionflow"):
        text.append(f"## {name}\n")
        summary = re.sub(r"\[/?[a-z]+\]", "", command.help or "").strip()
        text += [escaped(summary) + "\n"] if summary else []
        if examples := examples_of(command.epilog):
            text += ["```console", *(f"$ {line}" for line in examples), "```\n"]
        shown = command.params  # options that `--help` hides for length are listed here
        panels = list(dict.fromkeys(map(panel_of, shown)))
        for panel in panels:
            text += [f"| {panel} | |", "|---|---|"]
            text += [*(parameter_row(p) for p in shown if panel_of(p) == panel), ""]
    return "\n".join(text).rstrip() + "\n"


# ---- settings ------------------------------------------------------------------------------------------------------


def attributes_of(docstring: str) -> dict[str, str]:
    """Field → description, from the `Attributes:` section of a docstring."""
    found: dict[str, str] = {}
    _, _, section = docstring.partition("Attributes:\n")
    names: list[str] = []
    for line in section.splitlines():
        if line.strip() and not line.startswith(" "):
            break
        if match := re.match(r"    ([a-z_0-9, ]+): (.*)", line):
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2].strip())
        elif line.startswith("        "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif not line.strip():
            names = []
    return found


def comments_of(source: str) -> dict[int, str]:
    """Comment by line; a comment of its own lines belongs to the line after it."""
    found: dict[int, str] = {}
    above: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("# ")
        if token.line.lstrip().startswith("#"):
            above.append(text)
            found[line + 1] = " ".join(above)
            found.pop(line, None)
        else:
            found[line], above = text, []
    return found


def fields_of(module: str, name: str) -> tuple[str, list[tuple[str, str, str, str]]]:
    """Summary of a dataclass and its fields: name, annotation, default, description."""
    source = (ROOT / CORE / f"{module}.py").read_text(encoding="utf-8")
    (node,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name]
    docstring, comments = ast.get_docstring(node) or "", comments_of(source)
    described = attributes_of(docstring)
    rows = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            field, value = item.target.id, item.value
            default = "" if value is None else ast.unparse(value)
            text = described.get(field) or comments.get(item.lineno, "")
            rows.append((field, ast.unparse(item.annotation), default, text))
    return docstring.split("\n\n")[0].replace("\n", " "), rows


def settings_table(rows: list[tuple[str, str, str, str]], prefix: str = "") -> list[str]:
    text = ["| field | type | default | |", "|---|---|---|---|"]
    for field, kind, default, described in rows:
        cells = (code(prefix + field), code(kind), code(default) if default else "required")
        text.append(f"| {' | '.join(cells)} | {escaped(described)} |")
    return [*text, ""]


def settings_page() -> str:
    text = [
        MADE,
        "# Settings\n",
        "Fields of the dataclasses that Python callers set; options of the command line fill them.\n",
    ]
    for heading, module, name, summary in SETTINGS:
        text += [f"## {heading}\n", f"`{CORE}.{module.replace('/', '.')}.{name}`. {summary}\n"]
        text += settings_table(fields_of(module, name)[1])
    text += ["## Training\n", "Keys of the YAML file and of `--set`. The guide is [Training](../guides/training.md).\n"]
    _, rows = fields_of(TRAINING, "TrainConfig")
    groups = [(field, kind) for field, kind, default, _ in rows if default == f"{kind}()"]
    text += settings_table([row for row in rows if row[0] not in dict(groups)])
    for group, kind in groups:
        summary, inner = fields_of(TRAINING, kind)
        text += [f"### {group}\n", escaped(summary) + "\n", *settings_table(inner, f"{group}.")]
    return "\n".join(text).rstrip() + "\n"


# ---- JSON ----------------------------------------------------------------------------------------------------------


def schemas() -> dict[str, dict[str, Any]]:
    """Schemas by name: files, and blocks of pages."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.json"))}
    for page in sorted(DOCS.rglob("*.md")):
        for name, block in re.findall(
            r"^```json schema=(\S+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
        ):
            found[name] = json.loads(block)
    return found


def kind_of(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kinds = schema.get("type", "any")
    kind = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if "array" in kind and "items" in schema:
        kind += f" of {kind_of(schema['items'])}"
    return kind


def schema_rows(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    required = set(schema.get("required", ()))
    properties = dict(schema.get("properties", {}))
    properties |= {name: {} for name in schema.get("required", ()) if name not in properties}
    for name, inner in properties.items():
        always = "" if name in required else "may be absent"
        text = "; ".join(filter(None, (escaped(inner.get("description", "")), always)))
        yield f"| `{prefix}{name}` | {kind_of(inner)} | {text} |"
        nested = inner["items"] if isinstance(inner.get("items"), dict) else inner
        if "properties" in nested:
            yield from schema_rows(nested, f"{prefix}{name}{'[]' if nested is not inner else ''}.")


def json_page() -> str:
    text = [
        MADE,
        "# JSON\n",
        "Output of commands with `--json`, as JSON Schema 2020-12 in `docs/reference/schemas/`. Every line on stdout "
        "is one JSON value in ASCII. Fields may be added; those below keep their names, types and meaning. Tests "
        "validate real output against the schemas.\n",
    ]
    for name, schema in sorted(schemas().items()):
        text += [f"## {name}\n", escaped(schema.get("description", "")) + "\n"]
        if (SCHEMAS / f"{name}.json").is_file():
            text.append(f"[{name}.json](schemas/{name}.json)\n")
        top = schema["items"] if schema.get("type") == "array" else schema
        text += ["| field | type | |", "|---|---|---|", *schema_rows(top), ""]
    return "\n".join(text).rstrip() + "\n"


PAGES = {"commands.md": commands_page, "settings.md": settings_page, "json.md": json_page}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--write", action="store_true", help="update the pages; without it, exit with 1 if one is outdated"
    )
    write = parser.parse_args().write
    outdated = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            outdated.append(name)
            if write:
                path.write_text(text, encoding="utf-8")
    if outdated:
        print(f"{'updated' if write else 'outdated'}: {', '.join(outdated)}", file=sys.stderr)
    return int(bool(outdated) and not write)


if __name__ == "__main__":
    sys.exit(main())
