"""The site: python -m sphinx -W --keep-going docs docs/_build      (pip install '.[docs]')"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

import avfuse

project = "avfuse"
author = "The avfuse authors"
copyright = "the avfuse authors"
version = release = avfuse.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "examples", "sg_execution_times.rst"]
html_theme = "furo"
html_title = "avfuse"
pygments_dark_style = "github-dark"
html_static_path = ["static"]
html_css_files = ["avfuse.css"]
html_copy_source = False
templates_path: list[str] = []

# Blocks without a language are shell sessions and output.
highlight_language = "text"
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# `name` in a docstring links to what it names, where that has a page, and is code otherwise.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    # Types in signatures of what is documented elsewhere.
    ("py:.*", r"ArrayLike|TypeAliasForwardRef|NDArray|Table|(numpy|np|collections|pathlib|os|typing|fractions)\..*"),
    ("py:.*", r"(torch|nn|Tensor|Module|Optimizer|ExportedProgram|dtype)\b.*"),
    ("py:class", r"avfuse\.spatial\.sound\.(steering\.Steering|sources\.Listening)"),
]
autodoc_default_options = {"members": True, "special-members": "__call__, __matmul__"}
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 90

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "image_srcset": ["2x"],
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "copyfile_regex": r"$^",
}


# Docstrings here say "name: meaning" in lines of plain text. Sphinx shows those as parameters.

_ENTRY = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): ")


def _names(obj: Any) -> set[str]:
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()


def _escaped(line: str) -> str:
    """What is plain text in a docstring and markup in reStructuredText: |error|, `.wav`, and `Recording`s."""
    if line.startswith((">>> ", "... ")):
        return line
    line = line.replace("|", "\\|")
    if line.count("`") % 2:
        return line  # the name ends on the next line
    return re.sub(r"(?<!`)`([^`]+)`(\w?)", _quoted, line)


def _quoted(found: re.Match[str]) -> str:
    after = f"\\ {found[2]}" if found[2] else ""
    return (f"`{found[1]}`" if re.fullmatch(r"[A-Za-z_][\w.]*", found[1]) else f"``{found[1]}``") + after


def _cut(line: str, known: set[str]) -> Iterator[str]:
    """The line, cut where a sentence in it begins with names that are known."""
    start = 0
    for found in _ENTRY.finditer(line):
        begins = found.start()
        if line[:begins].endswith((". ", "; ")) and set(found[1].split(", ")) <= known:
            yield line[start:begins].rstrip("; ")
            start = begins
    yield line[start:]


def show_parameters(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "module":
        # Its table of contents is for readers of the code.
        del lines[lines.index("") if "" in lines else len(lines) :]
        return
    known = _names(obj)
    shown: list[str] = []
    names: list[str] = []  # of the entry that may go on
    text: list[str] = []

    def close() -> None:
        if names:
            kinds = ["param" if n in known else "ivar" for n in names]
            shown.extend(f":{kind} {n}: {' '.join(text)}" for kind, n in zip(kinds, names, strict=True))
            shown.append("")
            names.clear()

    for line in (part for whole in lines for part in _cut(_escaped(whole), known)):
        entry = _ENTRY.match(line)
        if entry and (what == "class" or set(entry[1].split(", ")) <= known):
            close()
            shown.append("")
            names[:], text[:] = entry[1].split(", "), [line[entry.end() :]]
        elif names and line and not (line[0].isupper() and text[-1].endswith(".")):
            text.append(line.strip())
        else:
            close()
            shown.append(line)
    close()
    # Field lists of one block are one list.
    lines[:] = [x for k, x in enumerate(shown) if x or not (k and shown[k - 1] == "")]


_ARRAY = re.compile(r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[([^\[\]]*)\]\]")


def shorten_types(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Arrays of any shape are written as in the code; defaults that are made anew have no text that could be read."""

    def short(text: str | None) -> str | None:
        return text and _ARRAY.sub(r"NDArray[\1]", text).replace("<factory>", "...")

    return short(signature), short(returned)


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples have no docstring but "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", show_parameters)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("autodoc-skip-member", skip_fields)
