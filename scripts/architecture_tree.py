"""Annotated tree of the source files in docs/concepts/architecture.md, from the first line of each module.

python scripts/architecture_tree.py --write
"""

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
START, END = "<!-- tree: scripts/architecture_tree.py --write -->\n```\n", "```\n<!-- end of tree -->"
TOP = ("fashionflow_cli", "export/fashionflow_export", "benchmarks/fashionflow_benchmarks", "fashionflow_core")
_INDENT, _COLUMN = 2, 30


def first_line(path: Path) -> str:
    """First line of a module's docstring, without the full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def branch(folder: Path, depth: int) -> list[str]:
    """Lines of a package: itself, its modules, then the packages in it."""
    shown = folder.relative_to(ROOT).as_posix() if depth == 0 else folder.name
    lines = [line(shown + "/", folder / "__init__.py", depth)]
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines += [line(path.name, path, depth + 1) for path in modules]
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        lines += branch(inner, depth + 1)
    return lines


def line(name: str, path: Path, depth: int) -> str:
    return f"{' ' * _INDENT * depth}{name}".ljust(_COLUMN) + f" # {first_line(path)}"


def tree() -> str:
    return "".join(text + "\n" for folder in TOP for text in branch(ROOT / folder, 0))


def page() -> str:
    """Content of docs/concepts/architecture.md with the current tree."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return before + START + tree() + END + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update the page instead of printing the tree")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(tree(), end="")


if __name__ == "__main__":
    main()
