"""What is compared: avfuse, a function by its name, a function at hand, or a command that writes alignment.json.

    avfuse                                   avfuse.align
    my_method.py:align_by_envelope           a function in a Python file
    package.module:function                  a function of a module
    cmd:mytool {files} -o {out}              a command; without {out} its stdout is read
    mine=SPEC                                any of them, called "mine" in the tables

A function takes the list of the case's files, the reference first, and returns an `Alignment`
(`Alignment.from_maps({file: clock})` makes one from bare clocks). In commands `{files}` is all of them, `{reference}`
the first, `{moving}` the others, `{out}` where alignment.json is to be written. Commands are split into words as a
shell would split them and then filled in, and run without a shell: no name in a file can be taken for a command.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avfuse.alignment import Alignment
from avfuse.errors import ReadError, StreamError

Aligner = Callable[[list[str]], Alignment]
_NAMED = re.compile(r"([\w .,+-]+)=(.+)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LISTS, _WORDS = ("files", "moving"), ("reference", "out")


@dataclass(frozen=True)
class Function:
    """A function that a process of its own can load. file: of the module; None where it is imported by its name."""

    name: str
    function: str
    module: str = ""
    file: str | None = None

    @property
    def spec(self) -> str:
        return f"{self.file or self.module}:{self.function}"


@dataclass(frozen=True)
class Command:
    """A program and its words, with placeholders in them."""

    name: str
    words: tuple[str, ...]

    @property
    def spec(self) -> str:
        return f"cmd:{shlex.join(self.words)}"

    @property
    def writes(self) -> bool:
        """Whether it writes a file; else its stdout is the document."""
        return any("{out}" in word for word in self.words)

    def filled(self, files: Sequence[str], out: str) -> list[str]:
        lists = {"files": list(files), "moving": list(files[1:])}
        words = {"reference": files[0], "out": out}
        found: list[str] = []
        for word in self.words:
            key = word[1:-1]
            if word.startswith("{") and word.endswith("}") and key in lists:
                found += lists[key]
            else:
                found.append(_PLACEHOLDER.sub(lambda m: words.get(m[1], m[0]), word))
        return found


@dataclass(frozen=True)
class Local:
    """A function that only this process has: a lambda, or one typed into a notebook. Its memory is not measured."""

    name: str
    call: Aligner

    @property
    def spec(self) -> str:
        return f"function {getattr(self.call, '__qualname__', self.name)}"


Method = Function | Command | Local
AVFUSE = Function("avfuse", "align_onto_first", "avfuse.evaluation.methods")


def align_onto_first(files: list[str]) -> Alignment:
    """The built-in method: `avfuse.align` with the first file as reference."""
    from avfuse.aligning import align

    return align(files, reference=files[0])


def parse_method(text: str) -> Method:
    """The method that a specification names. Raises ReadError where it names none."""
    named = _NAMED.fullmatch(text)
    name, spec = (named[1].strip(), named[2]) if named else (None, text)
    if spec == "avfuse":
        return Function(name or "avfuse", AVFUSE.function, AVFUSE.module)
    if spec.startswith("cmd:"):
        return _command(name, spec)
    place, _, function = spec.rpartition(":")
    if not place or not function.isidentifier():
        raise ReadError(
            f"method {text!r}: is neither 'avfuse', FILE.py:FUNCTION, MODULE:FUNCTION nor 'cmd:PROGRAM ... -o {{out}}'"
        )
    if place.endswith(".py") or os.path.isfile(place):
        _check_function(Path(place), function, text)
        return Function(name or function, function, file=os.path.abspath(place))
    source = _source_of_module(place, text)
    if source is not None:
        _check_function(source, function, text)
    return Function(name or function, function, module=place)


def named_method(name: str, method: str | Aligner) -> Method:
    """A method given from Python under a name: a specification, or a callable.

    A callable that a fresh process can load by its name runs in one; any other runs here, where its memory cannot be
    told from ours and nothing can end it.
    """
    if isinstance(method, str):
        parsed = parse_method(method)
        return Command(name, parsed.words) if isinstance(parsed, Command) else _renamed(parsed, name)
    if not callable(method):
        raise StreamError(f"method {name!r}: of type {type(method).__name__}; expected a function or a specification")
    module, function = getattr(method, "__module__", None), getattr(method, "__qualname__", "")
    if not inspect.isfunction(method) or not module or not function.isidentifier():
        return Local(name, method)
    if getattr(sys.modules.get(module), function, None) is not method:
        return Local(name, method)
    source = getattr(sys.modules[module], "__file__", None)
    if module == "__main__":
        # Loaded from its file under another name, so that what its `if __name__ == "__main__"` guards does not run.
        if source is None or not os.path.isfile(source):
            return Local(name, method)
        return Function(name, function, file=os.path.abspath(source))
    if source is not None and importlib.util.find_spec(module) is None:
        return Function(name, function, file=os.path.abspath(source))
    return Function(name, function, module=module)


def _renamed(method: Method, name: str) -> Method:
    assert isinstance(method, Function)
    return Function(name, method.function, method.module, method.file)


def methods_of(given: Mapping[str, str | Aligner] | Sequence[str] | None) -> tuple[Method, ...]:
    """Methods in order, by distinct names; avfuse alone where none is given."""
    if given is None:
        return (AVFUSE,)
    if isinstance(given, str):
        given = [given]
    found = (
        [named_method(name, method) for name, method in given.items()]
        if isinstance(given, Mapping)
        else [parse_method(text) for text in given]
    )
    if not found:
        raise StreamError("evaluate: no methods; expected at least one, or None for avfuse alone")
    names = [m.name for m in found]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ReadError(f"method {twice!r}: two methods have this name; call one of them NAME=SPEC")
    return tuple(found)


def _command(name: str | None, spec: str) -> Command:
    try:
        words = shlex.split(spec.removeprefix("cmd:"))
    except ValueError as error:
        raise ReadError(f"method {spec!r}: cannot be split into words ({error}); close its quotes") from None
    if not words:
        raise ReadError(f"method {spec!r}: names no program; expected 'cmd:PROGRAM {{files}} -o {{out}}'")
    for word in words:
        for found in _PLACEHOLDER.finditer(word):
            if found[1] not in (*_LISTS, *_WORDS):
                known = ", ".join(f"{{{key}}}" for key in (*_LISTS, *_WORDS))
                raise ReadError(f"method {spec!r}: {found[0]} is no placeholder; expected one of {known}")
            if found[1] in _LISTS and word != found[0]:
                raise ReadError(f"method {spec!r}: {found[0]} stands for several files; make it a word of its own")
    if not any(place in word for word in words for place in ("{files}", "{moving}", "{reference}")):
        raise ReadError(f"method {spec!r}: is not told the files; put {{files}} where they go")
    if shutil.which(words[0]) is None:
        raise ReadError(f"method {spec!r}: there is no program {words[0]!r}; give its path, or install it")
    return Command(name or Path(words[0]).name, tuple(words))


def _source_of_module(module: str, text: str) -> Path | None:
    """Where a module comes from; modules in the current folder count, as for `python -m`."""
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        found = None
    finally:
        sys.path.remove(os.getcwd())
    if found is None:
        raise ReadError(
            f"method {text!r}: there is no module {module!r}; a file is named with its .py, as ./{module}.py"
        )
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def _check_function(path: Path, function: str, text: str) -> None:
    """Without running the file: it runs in a process of its own, later."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ReadError(f"method {text!r}: {path} cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise ReadError(f"method {text!r}: {path} is no Python ({error})") from None
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    if function not in names and "*" not in names:
        known = ", ".join(n.name for n in tree.body if isinstance(n, ast.FunctionDef)) or "no functions"
        raise ReadError(f"method {text!r}: {path} has no {function!r}; it has {known}")
