"""The pages: their examples say what happens, and the site builds without a warning."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import avfuse

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOMS = ("temporal", "spatial", "io", "io.timeline", "rendering", "evaluation", "simulation")
PUBLIC = ("avfuse", *(f"avfuse.{room}" for room in ROOMS))


def page_blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of the fenced blocks in `language`."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 1, m[2]) for m in FENCE.finditer(text) if m[1] == language]


def failures_of(test: doctest.DocTest) -> str:
    told: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=told.append)
    return "".join(told)


WITH_EXAMPLES = [p for p in PAGES if page_blocks(p, "pycon")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda p: p.stem)
def test_examples_of_pages_print_what_they_say(page: Path) -> None:
    # One after another: later ones use names of earlier ones.
    text = "\n".join(block for _, block in page_blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert test.examples
    assert failures_of(test) == ""


def test_an_example_that_says_something_else_would_be_seen() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected" in failures_of(test)


def test_examples_of_docstrings_print_what_they_say() -> None:
    found = 0
    for module in pkgutil.walk_packages(avfuse.__path__, "avfuse."):
        path = ROOT.joinpath(*module.name.split("."))
        source = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if ">>> " in source.read_text(encoding="utf-8"):
            for test in doctest.DocTestFinder().find(importlib.import_module(module.name)):
                found += len(test.examples)
                assert failures_of(test) == ""
    assert found


@pytest.mark.parametrize("page", [p for p in PAGES if page_blocks(p, "python")], ids=lambda p: p.stem)
def test_snippets_that_need_files_are_python_at_least(page: Path) -> None:
    for line, text in page_blocks(page, "python"):
        compile("\n" * line + text, str(page), "exec")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_shows_all_that_is_public(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install '.[docs]'")
    pages = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("_build", "auto_gallery"))
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(pages), str(site)],
        capture_output=True, text=True, check=False, timeout=500, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    for page in site.rglob("*.html"):
        # A table whose columns do not match is shown as it was typed, but for its dashes.
        assert not re.search(r"\|(---|—)\|", page.read_text(encoding="utf-8")), f"{page.name}: a table is none"
    scripts = [p.stem for p in (ROOT / "docs" / "gallery").glob("plot_*.py")]
    assert scripts
    for script in scripts:
        assert list((site / "_images").glob(f"sphx_glr_{script}_001*.png")), f"{script}.py drew nothing"
    public = {each for name in PUBLIC for each in importlib.import_module(name).__all__}
    public = {each for each in public if not each.startswith("__") and not each.isupper()}
    assert public - {name.rsplit(".")[-1] for name in shown_names(site)} == set()


def shown_names(site: Path) -> set[str]:
    """What the pages of the API describe: the first words of Sphinx's inventory."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
