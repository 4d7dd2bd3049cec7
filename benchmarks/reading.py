"""Count what somebody who reads the library has to go through: modules, code lines, record types, and moves between files.

    python -m benchmarks.reading [--root FOLDER] [--json]

A move is a call from one file of ours to another one, over frames of other libraries, too. The three trips run in processes
of their own, with a cache and a home folder of their own: a cold fetch of a name with twelve files from a server on this
machine, a warm load, and the first `resolve` of a process. `--root` counts another checkout.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
#: What a small BERT is made of.
SIZES = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TRIPS = ("fetch", "load", "resolve")


class Counter:
    """Counts moves between files, URLs that are computed and records that are read while it is switched on."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.moves = self.urls = self.records = 0
        self._ours = tuple(f"{root / name}{os.sep}" for name in ("registry", "plugins"))
        self._transports = f"{root / 'registry' / 'store' / 'transports'}{os.sep}"
        self._cache = f"{cache}{os.sep}"
        self._on = False
        sys.addaudithook(self._opened)

    def __enter__(self) -> Counter:
        self._on = True
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # as documented
        self._on = False

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._ours):
            return
        if code.co_name == "join" and code.co_filename.startswith(self._transports):
            self.urls += 1
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(self._ours):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != code.co_filename:
            self.moves += 1

    def _opened(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self._on:
            return
        path, _, flags = arguments
        reads = isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY
        if reads and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._cache):
            self.records += str(os.fspath(path)).endswith(".json")


def trip(name: str, root: Path, folder: Path) -> dict[str, int]:
    """Make one trip in this process, and return what was counted."""
    cache = folder / "cache"
    os.environ.update(HOME=str(folder), REGISTRY_CACHE=str(cache))
    os.environ["REGISTRY_MODELS"] = str(folder / "models.yaml")
    counter = Counter(root, cache)
    import registry

    if name == "resolve":
        with counter:
            registry.resolve("m")
        return {"moves": counter.moves}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder / "files")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files = "".join(f"      {path.name}:\n" for path in sorted((folder / "files").iterdir()))
    source = f"http://127.0.0.1:{server.server_port}/"
    (folder / "models.yaml").write_text(
        f"registry: 1\nmodels:\n  m:\n    family: bert\n    source: {source}\n    files:\n{files}"
    )
    if name == "load":
        registry.load("m")
        before = _loaded()
        with counter:
            registry.load("m")
        assert _loaded() == before  # else it was not warm
        return {"moves": counter.moves}
    with counter:
        registry.fetch("m")
    found = {"moves": counter.moves, "urls": counter.urls, "records": counter.records}
    registry.load("m")
    return found | {"imported": len(_loaded())}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _loaded() -> set[str]:
    """Return the modules of the library that this process has imported, without packages."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "registry"]
    return {module.__name__ for module in modules if not hasattr(module, "__path__")}


def trips(root: Path) -> dict[str, dict[str, int]]:
    """Make every trip, each in a process and folders of its own."""
    found = {}
    for name in TRIPS:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder).resolve()
            _publish(root, place)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "plugins")))}
            done = subprocess.run(
                [sys.executable, str(Path(__file__)), "--root", str(root), "--trip", name, str(place)],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
                cwd=place,
            )
            found[name] = json.loads(done.stdout)
    return found


def _publish(root: Path, folder: Path) -> None:
    """Write twelve files of a small model, and a catalog for the trip that fetches nothing."""
    files = folder / "files"
    code = (
        "import sys; from registry_bert import BertConfig, BertForMaskedLM; import json;"
        "BertForMaskedLM(BertConfig(**json.loads(sys.argv[1]))).save_pretrained(sys.argv[2])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "plugins")))}
    subprocess.run([sys.executable, "-c", code, json.dumps(SIZES), str(files)], check=True, env=environment, cwd=folder)
    (files / "vocab.txt").write_text(
        "".join(f"{word}\n" for word in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"])
    )
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (files / name).write_text("{}")
    while (count := len(list(files.iterdir()))) < 12:
        (files / f"note-{count}.txt").write_text("a file without a role\n")
    (folder / "models.yaml").write_text("registry: 1\nmodels:\n  m: {family: bert, source: ./files}\n")


def sources(root: Path) -> Iterator[tuple[str, ast.Module, str]]:
    """Yield path, syntax tree and text of each module of the library and its families."""
    for path in sorted((*(root / "registry").rglob("*.py"), *(root / "plugins").rglob("*.py"))):
        text = path.read_text()
        yield path.relative_to(root).as_posix(), ast.parse(text), text


def is_record(node: ast.ClassDef) -> bool:
    """Return True for a class that is a dataclass or named tuple."""
    decorators = [ast.unparse(one) for one in node.decorator_list]
    return any(text.startswith("dataclass") for text in decorators) or "NamedTuple" in map(ast.unparse, node.bases)


def code_lines(tree: ast.Module, text: str) -> int:
    """Return how many lines hold code: no comments, blank lines or docstrings."""
    import io
    import tokenize

    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            first = node.body[0]
            lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def count(root: Path) -> dict[str, int]:
    """Return every figure of a checkout."""
    parsed = list(sources(root))
    made = trips(root)
    return {
        "modules of registry/": sum(path.startswith("registry/") and not path.endswith("__init__.py") for path, _, _ in parsed),
        "modules imported by fetch and load": made["fetch"]["imported"],
        "record types of the store": sum(
            isinstance(node, ast.ClassDef) and is_record(node)
            for path, tree, _ in parsed
            if path.startswith("registry/store/")
            for node in ast.walk(tree)
        ),
        "code lines": sum(code_lines(tree, text) for _, tree, text in parsed),
        "cold fetch of 12 files: URLs computed": made["fetch"]["urls"],
        "cold fetch of 12 files: records read": made["fetch"]["records"],
        "cold fetch of 12 files: moves between files": made["fetch"]["moves"],
        "warm load: moves between files": made["load"]["moves"],
        "first resolve: moves between files": made["resolve"]["moves"],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to count")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--trip", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)  # how it calls itself
    options = parser.parse_args()
    if options.trip:
        name, folder = options.trip
        print(json.dumps(trip(name, options.root, Path(folder))))
        return
    figures = count(options.root.resolve())
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, figure in figures.items():
        print(f"{name:46} {figure:>7,}")


if __name__ == "__main__":
    main()
