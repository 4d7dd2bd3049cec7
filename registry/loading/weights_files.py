"""Find the files of a model's weights, in any supported format, and open them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from registry.checkpoint.converted import open_stored
from registry.checkpoint.numpy_pieces import SHAPES_NAME, NumpyPieces, piece_name, read_piece, read_shapes
from registry.checkpoint.open import INDEX_SUFFIX, checkpoint_format, open_checkpoint, open_shards, shard_names
from registry.errors import CheckpointError
from registry.families.family import Family
from registry.families.roles import TENSORFLOW_SUFFIX as _TENSORFLOW_SUFFIX
from registry.families.roles import WEIGHTS, named_roles, weights_that_count
from registry.store.store import Store
from registry.store.target import StoredFile, Target, newest_first

if TYPE_CHECKING:
    from registry.checkpoint.name_table import Renamed
    from registry.checkpoint.open import Inspection
    from registry.checkpoint.tensors import Checkpoint
    from registry.pretrained.config import PretrainedConfig

__all__ = [
    "ASKED_FOR",
    "Wanted",
    "find_weights",
    "inspect_weights",
    "names_config",
    "names_weights",
    "open_weights",
    "require_whole",
    "unread_file",
    "unread_weights",
]

#: The name that TensorFlow's Saver gives by default; a place that cannot be listed is asked for it.
_TENSORFLOW_NAME = "model.ckpt.index"
_OWN_FORMS = ("safetensors", "torch")
_IN_TRANSFORMERS_4 = "convert it with transformers 4: from_pretrained(folder, {}=True), then save_pretrained"
#: How the names of files end whose weights are not read here, what they are, and what to do.
_UNREAD = {
    ".h5": ("weights of TensorFlow 2 (Keras, an HDF5 file)", _IN_TRANSFORMERS_4.format("from_tf")),
    ".keras": ("a model of Keras", _IN_TRANSFORMERS_4.format("from_tf")),
    ".pb": ("a graph of TensorFlow", "take the checkpoint that it was made of"),
    ".tflite": ("a graph of TensorFlow Lite", "take the weights that it was made of"),
    ".msgpack": ("weights of Flax", _IN_TRANSFORMERS_4.format("from_flax")),
    ".gguf": (
        "quantized weights of llama.cpp",
        "take the weights that it was made of, or convert it with transformers: from_pretrained(folder, gguf_file=name), "
        "then save_pretrained",
    ),
    ".onnx": ("an exported ONNX graph", "take the weights that it was exported from"),
    ".ot": ("weights of rust-bert", "take the weights that it was made of"),
    ".mlmodel": ("a Core ML model", "take the weights that it was made of"),
}
#: Those of them that a place which cannot be listed is asked for.
ASKED_FOR = ("tf_model.h5", "flax_model.msgpack")
_SHARD_OF = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")
_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
#: What the Saver notes of its own files, as a protocol buffer's text.
_LATEST = re.compile(r'^model_checkpoint_path:\s*"(?:[^"]*/)?([^"/]+)"', re.MULTILINE)


class Wanted(NamedTuple):
    """The forms of weights that can be used."""

    #: The names of files of this program's own forms, best first.
    names: Sequence[str]
    #: Another program's form to the function that knows its names, as `Family.converters`.
    converters: Mapping[str, str]
    #: Whether only another program's form is asked for.
    only_foreign: bool = False

    @classmethod
    def of(cls, described: Family | None, names: Sequence[str], *, from_tf: bool = False) -> Wanted:
        """Return what a family can read.

        Raises:
            CheckpointError: when another program's form is asked for and it can read none.
        """
        converters = described.converters if described is not None else {}
        if from_tf and not converters:
            raise CheckpointError(
                f"family {described.name if described else '?'!r} is expected to have a converter for TensorFlow checkpoints, "
                "but has none; convert the checkpoint first"
            )
        return cls(names, converters, from_tf)


def names_config(name: str) -> bool:
    """Whether the name of a file is that of a configuration, and not of weights or their index."""
    return name.endswith(".json") and not name.endswith(INDEX_SUFFIX) and name != SHAPES_NAME


def names_weights(name: str) -> bool:
    """Whether the name of a file is one that only weights or their index have."""
    ends = (".safetensors", INDEX_SUFFIX, _TENSORFLOW_SUFFIX, ".pt", ".pth", *_UNREAD)
    return name.endswith(ends) or ".ckpt" in name or name == SHAPES_NAME


def find_weights(
    store: Store,
    target: Target,
    wanted: Wanted,
    need: Callable[[Sequence[str], str], StoredFile],
    jobs: int | None = None,
    *,
    files: Mapping[str, Sequence[str]],
) -> list[StoredFile]:
    """Return the files that contain the weights: one, or an index followed by its shards, fetched concurrently.

    Args:
        store: brings them.
        target: where they lie.
        wanted: what can be used.
        need: returns the first of some files that the target has, or raises that there is none; its second argument says
            what they are.
        jobs: how many files to fetch concurrently.
        files: role to file names, as `Family.files`.

    Raises:
        CheckpointError: when the catalog's entry names weights, but none in a form that is wanted.
    """
    listed = target.listed
    named = named_roles(listed, files, wanted.converters)[WEIGHTS]
    counting = partial(weights_that_count, listed=listed, files=files, converters=wanted.converters)
    candidates = _candidates(target, wanted, counting)
    if named and not candidates and target.place.lock and not set(named) & set(target.place.pins):
        candidates = named  # so that the error is of the lock
    if named and not candidates:
        assert target.entry is not None
        raise CheckpointError(
            f"weights of {target.label!r} are expected in a form that can be used here, but its entry names only "
            f"{', '.join(named)} ({target.entry.origins[f'files.{named[0]}']}); name another file, or leave from_tf out"
        )
    first = need(candidates, "weights")
    if first.name == SHAPES_NAME:
        return [first, *_pieces(first.path, need)]
    if first.name.endswith(INDEX_SUFFIX):
        shards: Iterable[str] = sorted(set(shard_names(first.path).values()))
    elif first.name.endswith(_TENSORFLOW_SUFFIX):
        from registry.checkpoint.tensorflow.file import data_shards

        shards = data_shards(first.path, first.name)
    else:
        return [first]
    from registry.store.store import at_once

    return [first, *at_once(store, [partial(need, (name,), f"shard (named by {first.name})") for name in shards], jobs)]


def open_weights(
    files: Sequence[StoredFile], described: Family | None, config: PretrainedConfig, store: Store, label: str
) -> Checkpoint | Renamed:
    """Open what `find_weights` returned; another program's names become the family's.

    Args:
        files: the weights file, or an index and its shards.
        described: the family, where the class belongs to one.
        config: of the model.
        store: where the files are from.
        label: the model, for people.

    Raises:
        CheckpointError: when a file is not what it should be, or of a form that the family cannot read.
        UnsafeCheckpoint: when a pickle holds more than tensors.
    """
    form, checkpoint = _opened(files, lambda file: open_stored(file, store, label))
    if form in _OWN_FORMS:
        return checkpoint
    if described is None or form not in described.converters:
        raise CheckpointError(
            f"family {described.name if described else '?'!r} is expected to have a converter for {form} checkpoints such as "
            f"{files[0].name}, but has none; convert it with a program that knows its names",
            path=str(files[0].path),
        )
    convert = described.load_class(described.converters[form])
    renamed: Renamed = convert(checkpoint, config)
    return renamed


def require_foreign(file: StoredFile) -> None:
    """Refuse a file that is not of another program's form.

    Raises:
        CheckpointError: when it is of a form of this program.
    """
    if file.name.endswith(INDEX_SUFFIX) or (file.name != SHAPES_NAME and checkpoint_format(file.path) in _OWN_FORMS):
        raise CheckpointError(
            f"weights {file.name!r} are expected to be another program's, because from_tf=True says so, but are not; "
            "leave from_tf out",
            path=str(file.path),
        )


def inspect_weights(files: Sequence[StoredFile]) -> Inspection:
    """Describe what `find_weights` returned, by its own names, without reading values.

    Raises:
        CheckpointError: when it is damaged, or no checkpoint.
    """
    from registry.checkpoint.open import inspect_files

    first = files[0]
    held = files[1:] if first.name.endswith(INDEX_SUFFIX) else files
    form = "numpy" if first.name == SHAPES_NAME else checkpoint_format(held[0].path)
    return inspect_files(
        [file.path for file in files], form, lambda: _opened(files, lambda file: open_checkpoint(file.path))[1]
    )


def _opened(files: Sequence[StoredFile], opened: Callable[[StoredFile], Checkpoint]) -> tuple[str, Checkpoint]:
    """Return the form of a checkpoint, and the checkpoint by its own names; `opened` opens a file of this program's forms."""
    first, held = files[0], {file.name: file for file in files}
    if first.name == SHAPES_NAME:
        return "numpy", NumpyPieces(first.path, [file.path for file in files[1:]])
    if first.name.endswith(INDEX_SUFFIX):
        return "safetensors", open_shards(first.path, lambda name: opened(held[name]))
    form = checkpoint_format(first.path)
    if form not in (*_OWN_FORMS, "tensorflow") and (said := unread_file(first.name, form)) is not None:
        raise CheckpointError(f"weights are expected to be safetensors or torch's, but are {said}", path=str(first.path))
    if form == "tensorflow":
        return form, open_checkpoint(first.path, lambda name: held[name].path, name=first.name)
    return form, opened(first)


def unread_file(name: str, form: str = "") -> str | None:
    """Return what a file is whose weights are not read here, and what to do; None for a file of another kind.

    Args:
        name: of the file.
        form: what `checkpoint_format` says of it.
    """
    ending = {"an HDF5 file": ".h5", "a GGUF file": ".gguf"}.get(form, Path(name).suffix.lower())
    if ending not in _UNREAD:
        return None
    what, advice = _UNREAD[ending]
    return f"{what}, {name!r}, which are not read here; {advice}"


def unread_weights(target: Target, what: str) -> str | None:
    """Return what a place has in the place of weights that can be read, and what to do; None when nothing shows it.

    Args:
        target: a folder or file on this machine, or a source whose own name says what it is.
        what: what was looked for; without a configuration, weights that could be read are none of the reasons.
    """
    given = [target.file] if target.file is not None else []
    for name in (*given, *(source.partition("?")[0].rstrip("/").rpartition("/")[2] for source in target.place.sources)):
        if (said := unread_file(name)) is not None:
            return said
    if target.folder is None:
        return None
    try:
        names = sorted(path.name for path in (*target.folder.iterdir(), *target.folder.glob("onnx/*.onnx")))
    except OSError:  # no folder, or none that may be looked into
        return None
    shards = [name for name in names if (match := _SHARD_OF.fullmatch(name)) and match[3] not in _UNREAD]
    parts = [name for name in names if _SHARD.fullmatch(name)]
    if what == "configuration" and (
        shards or parts or any(name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt", INDEX_SUFFIX)) for name in names)
    ):
        return None
    if shards:
        match = _SHARD_OF.fullmatch(shards[0])
        assert match is not None
        index = match[1] + match[3] + INDEX_SUFFIX
        return f"{shards[0]!r}, one of {int(match[2])} shards, without their index; fetch {index!r}, too"
    if parts:
        match = _SHARD.fullmatch(parts[0])
        assert match is not None
        index = match[1] + _TENSORFLOW_SUFFIX
        return f"{parts[0]!r}, a part of a TensorFlow checkpoint, without its index; fetch {index!r}, too"
    return next((said for name in names if (said := unread_file(name)) is not None), None)


def require_whole(target: Target) -> None:
    """Refuse one of several shards, given as the file of the weights.

    Raises:
        CheckpointError: naming the index.
    """
    match = _SHARD_OF.fullmatch(target.file or "")
    if match and int(match[2]) > 1 and match[3] not in _UNREAD:
        raise CheckpointError(
            f"weights of {target.label!r} are expected to be whole, but are one of {int(match[2])} shards; name the folder, or "
            f"{match[1] + match[3] + INDEX_SUFFIX}",
            path=target.file,
        )


def _candidates(target: Target, wanted: Wanted, counting: Callable[[Iterable[str]], list[str]]) -> Sequence[str]:
    """Return the names that the weights can have, best first; `counting` leaves those that the catalog's entry allows."""
    own = [] if wanted.only_foreign else [form for name in wanted.names for form in (name, name + INDEX_SUFFIX)]
    if target.file is not None and not names_config(target.file):
        if shard := _SHARD.fullmatch(target.file):
            raise CheckpointError(
                f"weights of {target.label!r} are expected to be the index of a TensorFlow checkpoint, but are one of its "
                f"shards; name {shard[1]}.index, or {shard[1]}",
                path=target.file,
            )
        # A checkpoint of TensorFlow is known by the beginning of its files' names.
        is_beginning = "tensorflow" in wanted.converters and ".ckpt" in target.file and not target.file.endswith(".index")
        named = [target.file, target.file + _TENSORFLOW_SUFFIX] if is_beginning else [target.file]
        return named[::-1] if wanted.only_foreign else named
    if target.folder is not None:
        if target.place.lock:  # other files are not used
            own = [name for name in own if name in target.place.pins]
        own = list(newest_first(target.folder, counting(own)))
        if any((target.folder / name).exists() for name in own):
            return own
    foreign = _tensorflow_names(target) if "tensorflow" in wanted.converters else []
    return counting([*own, *foreign, *([SHAPES_NAME] if "numpy" in wanted.converters else [])])


def _tensorflow_names(target: Target) -> list[str]:
    """Return the names of index files that a target may have.

    Raises:
        CheckpointError: when a folder has several, and nothing says which is meant.
    """
    shards = (shard for name in target.place.pins if (shard := _SHARD.fullmatch(name)))
    pinned = [name for name in target.place.pins if name.endswith(_TENSORFLOW_SUFFIX)]
    pinned = pinned or list(dict.fromkeys(f"{shard[1]}{_TENSORFLOW_SUFFIX}" for shard in shards))
    if pinned or target.folder is None:
        return pinned or [_TENSORFLOW_NAME]
    found = sorted(path.name for path in target.folder.glob(f"*{_TENSORFLOW_SUFFIX}"))
    if len(found) > 1:
        note = target.folder / "checkpoint"
        latest = _LATEST.search(note.read_text("utf-8", "replace")) if note.is_file() else None
        if latest is not None and (name := latest[1] + _TENSORFLOW_SUFFIX) in found:
            return [name]
        raise CheckpointError(
            f"folder {str(target.folder)!r} is expected to hold one TensorFlow checkpoint, or a file 'checkpoint' that "
            f"names the latest, but holds {', '.join(found)}; name one of them",
            path=str(target.folder),
        )
    # Without an index, what has the name of a checkpoint is one of version 1, of which its opening tells.
    older = sorted(path.name for path in target.folder.glob("*.ckpt*") if path.is_file() and not _SHARD.fullmatch(path.name))
    return found or [_TENSORFLOW_NAME, *(name for name in older if checkpoint_format(target.folder / name) == "tensorflow")]


def _pieces(shapes: Path, need: Callable[[Sequence[str], str], StoredFile]) -> list[StoredFile]:
    """Return as many pieces as hold what the shapes need: only the pieces themselves tell how many they are."""
    missing, pieces = sum(map(math.prod, read_shapes(shapes))), list[StoredFile]()
    while missing > 0:
        pieces.append(need((piece_name(len(pieces)),), "piece of the weights"))
        if (size := len(read_piece(pieces[-1].path))) == 0:
            raise CheckpointError(
                f"{pieces[-1].name} is expected to hold values, but is empty; fetch it again", path=str(pieces[-1].path)
            )
        missing -= size
    return pieces
