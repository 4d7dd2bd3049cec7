"""Write the checkpoints of `tests/tensorflow/checkpoints` with TensorFlow, and beside each what TensorFlow reads from it.

In an environment with tensorflow-cpu==2.21.0, google-crc32c and cramjam, from the root of the checkout:

    python -m tests.tensorflow.write_checkpoints

The names of the variables are those of Google's and OpenAI's releases: google-research/bert modeling.py, run_squad.py,
run_classifier.py and optimization.py; openai/gpt-2 src/model.py; kimiyoung/transformer-xl tf/model.py and train_gpu.py.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf

from tests.tensorflow import bundle

FOLDER = Path(__file__).parent / "checkpoints"
SAFETENSORS = {
    "bfloat16": "BF16",
    "bool": "BOOL",
    "complex64": "C64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    **{f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
v1 = tf.compat.v1
numbers = np.random.default_rng(2026)

BERT = {
    "vocab_size": 97,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}
GPT2 = {"n_vocab": 97, "n_ctx": 20, "n_embd": 16, "n_head": 4, "n_layer": 2}
#: As a `config.json` of pytorch_transformers 1.2.0 would say it; the original code had command lines only.
TRANSFO_XL = {
    "n_token": 97,
    "cutoffs": [30, 50, 70],
    "d_model": 16,
    "d_embed": 64,
    "n_head": 4,
    "d_head": 5,
    "d_inner": 24,
    "n_layer": 2,
    "div_val": 4,
    "tgt_len": 8,
    "ext_len": 0,
    "mem_len": 8,
    "clamp_len": 10,
    "same_length": True,
    "proj_share_all_but_first": True,
    "adaptive": True,
    "tie_weight": True,
    "untie_r": True,
}

Shapes = dict[str, tuple[int, ...]]


def bert_encoder() -> Shapes:
    hidden, inner = BERT["hidden_size"], BERT["intermediate_size"]
    shapes: Shapes = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}/kernel"], shapes[f"{name}/bias"] = (inputs, outputs), (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}/LayerNorm/beta"], shapes[f"{name}/LayerNorm/gamma"] = (hidden,), (hidden,)

    for table, rows in (("word", "vocab_size"), ("token_type", "type_vocab_size"), ("position", "max_position_embeddings")):
        shapes[f"bert/embeddings/{table}_embeddings"] = (BERT[rows], hidden)
    norm("bert/embeddings")
    for layer in (f"bert/encoder/layer_{number}" for number in range(BERT["num_hidden_layers"])):
        for part in ("query", "key", "value"):
            dense(f"{layer}/attention/self/{part}", hidden, hidden)
        dense(f"{layer}/attention/output/dense", hidden, hidden)
        norm(f"{layer}/attention/output")
        dense(f"{layer}/intermediate/dense", hidden, inner)
        dense(f"{layer}/output/dense", inner, hidden)
        norm(f"{layer}/output")
    dense("bert/pooler/dense", hidden, hidden)
    return shapes


def bert_pretraining() -> Shapes:
    hidden = BERT["hidden_size"]
    return {
        **bert_encoder(),
        "cls/predictions/transform/dense/kernel": (hidden, hidden),
        "cls/predictions/transform/dense/bias": (hidden,),
        "cls/predictions/transform/LayerNorm/beta": (hidden,),
        "cls/predictions/transform/LayerNorm/gamma": (hidden,),
        "cls/predictions/output_bias": (BERT["vocab_size"],),
        "cls/seq_relationship/output_weights": (2, hidden),
        "cls/seq_relationship/output_bias": (2,),
    }


def gpt2() -> Shapes:
    width = GPT2["n_embd"]
    shapes: Shapes = {"model/wpe": (GPT2["n_ctx"], width), "model/wte": (GPT2["n_vocab"], width)}
    for layer in (f"model/h{number}" for number in range(GPT2["n_layer"])):
        for norm in ("ln_1", "ln_2"):
            shapes[f"{layer}/{norm}/g"], shapes[f"{layer}/{norm}/b"] = (width,), (width,)
        for name, inputs, outputs in (
            ("attn/c_attn", width, 3 * width),
            ("attn/c_proj", width, width),
            ("mlp/c_fc", width, 4 * width),
            ("mlp/c_proj", 4 * width, width),
        ):
            shapes[f"{layer}/{name}/w"], shapes[f"{layer}/{name}/b"] = (1, inputs, outputs), (outputs,)
    return {**shapes, "model/ln_f/g": (width,), "model/ln_f/b": (width,)}


def transfo_xl(config: Mapping[str, Any]) -> Shapes:
    model, embed, cutoffs = config["d_model"], config["d_embed"], config["cutoffs"]
    ends = [0, *cutoffs, config["n_token"]]
    sizes = [end - start for start, end in pairwise(ends)]
    widths = [embed // config["div_val"] ** bucket for bucket in range(len(sizes))]
    heads = (config["n_head"], config["d_head"])
    attention = heads[0] * heads[1]
    biases = (config["n_layer"], *heads) if config["untie_r"] else heads
    shapes: Shapes = {"r_w_bias": biases, "r_r_bias": biases}
    if config["div_val"] == 1:
        shapes |= {"adaptive_embed/lookup_table": (config["n_token"], embed), "adaptive_embed/proj_W": (embed, model)}
    else:
        for bucket, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            shapes[f"adaptive_embed/cutoff_{bucket}/lookup_table"] = (size, width)
            shapes[f"adaptive_embed/cutoff_{bucket}/proj_W"] = (width, model)
    for layer in (f"layer_{number}" for number in range(config["n_layer"])):
        shapes |= {
            f"{layer}/rel_attn/qkv/kernel": (model, 3 * attention),
            f"{layer}/rel_attn/r/kernel": (model, attention),
            f"{layer}/rel_attn/o/kernel": (attention, model),
            f"{layer}/ff/layer_1/kernel": (model, config["d_inner"]),
            f"{layer}/ff/layer_1/bias": (config["d_inner"],),
            f"{layer}/ff/layer_2/kernel": (config["d_inner"], model),
            f"{layer}/ff/layer_2/bias": (model,),
        }
        for part in ("rel_attn", "ff"):
            shapes[f"{layer}/{part}/LayerNorm/beta"] = shapes[f"{layer}/{part}/LayerNorm/gamma"] = (model,)
    for bucket, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        scope = f"adaptive_softmax/cutoff_{bucket}"
        shapes[f"{scope}/b"] = (size,)
        if not config["tie_weight"]:  # Nobody published such: the name is the one that pytorch_transformers foresaw.
            shapes[f"{scope}/lookup_table"] = (size, width)
        if bucket == 0 or not config["proj_share_all_but_first"]:
            shapes[f"{scope}/proj"] = (width, model)
        if bucket == 0:
            shapes[f"{scope}/cluster_W"], shapes[f"{scope}/cluster_b"] = (len(cutoffs), embed), (len(cutoffs),)
    return {f"transformer/{name}": shape for name, shape in shapes.items()}


def values(shape: tuple[int, ...]) -> np.ndarray:
    return numbers.normal(0, 0.2, shape).astype(np.float32)


def save(prefix: Path, shapes: Shapes, *, optimizer: str | None = None, step: int | None = None, latest: bool = True) -> None:
    """Save variables of random values, with the slots that BERT's own optimizer or TensorFlow's Adam leaves."""
    prefix.parent.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=values(shape)) for name, shape in shapes.items()]
        if optimizer == "bert":
            for variable in variables:
                for slot in ("adam_m", "adam_v"):
                    v1.get_variable(f"{variable.op.name}/{slot}", initializer=values(variable.shape), trainable=False)
        counter = v1.train.get_or_create_global_step() if step is not None else None
        update = tf.no_op()
        if optimizer == "adam":
            gradients = [(tf.constant(values(variable.shape)), variable) for variable in variables]
            update = v1.train.AdamOptimizer(0.001).apply_gradients(gradients)
        session.run(v1.global_variables_initializer())
        session.run(update)
        if counter is not None:
            counter.load(step, session)
        saver = v1.train.Saver(save_relative_paths=True)
        saver.save(session, str(prefix), write_meta_graph=False, write_state=latest)
    expect(prefix)


def write_models() -> None:
    bert = {"bert": bert_pretraining(), "bert_squad": bert_encoder(), "bert_classifier": bert_encoder()}
    hidden = BERT["hidden_size"]
    bert["bert_squad"] |= {"cls/squad/output_weights": (2, hidden), "cls/squad/output_bias": (2,)}
    bert["bert_classifier"] |= {"output_weights": (3, hidden), "output_bias": (3,)}
    save(FOLDER / "bert" / "bert_model.ckpt", bert["bert"], optimizer="bert", step=20, latest=False)
    save(FOLDER / "bert_squad" / "model.ckpt-30", bert["bert_squad"], optimizer="bert", step=30)
    save(FOLDER / "bert_classifier" / "model.ckpt-30", bert["bert_classifier"], optimizer="bert", step=30)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "of", "and", "to", "##s", "##ing", "."]
    words += [f"word{number}" for number in range(BERT["vocab_size"] - len(words))]
    for folder in bert:
        (FOLDER / folder / "bert_config.json").write_text(json.dumps(BERT, indent=2) + "\n")
        (FOLDER / folder / "vocab.txt").write_text("\n".join(words) + "\n")
    save(FOLDER / "gpt2" / "model.ckpt", gpt2())
    (FOLDER / "gpt2" / "hparams.json").write_text(json.dumps(GPT2, indent=2) + "\n")
    xl = {
        "transfo_xl_wt103": TRANSFO_XL,
        "transfo_xl_untied": {**TRANSFO_XL, "proj_share_all_but_first": False, "tie_weight": False, "untie_r": False},
        "transfo_xl_div_val_1": {**TRANSFO_XL, "d_embed": 12, "div_val": 1},
    }
    for folder, config in xl.items():
        adam = folder == "transfo_xl_wt103"
        save(FOLDER / folder / "model.ckpt-0", transfo_xl(config), optimizer="adam" if adam else None, step=0)
        (FOLDER / folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_types() -> None:
    """Write every type that TensorFlow stores, shapes without values, and names that share their beginnings."""
    tensors: dict[str, Any] = {}
    for name in ("float16", "float32", "float64", "complex64", "complex128"):
        tensors[name] = numbers.normal(0, 1, (3, 5)).astype(name)
    tensors["complex64"] = tensors["complex64"] * np.complex64(1 - 2j)
    tensors["complex128"] = tensors["complex128"] * np.complex128(1 - 2j)
    tensors["bfloat16"] = numbers.normal(0, 1, (3, 5)).astype(ml_dtypes.bfloat16)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(name)
        tensors[name] = np.array([limits.min, limits.max, 1, 2, 100], name)
    tensors["bool"] = np.array([True, False, True])
    tensors["float8_e5m2"] = numbers.normal(0, 1, 7).astype(ml_dtypes.float8_e5m2)
    tensors["float8_e4m3fn"] = numbers.normal(0, 1, 7).astype(ml_dtypes.float8_e4m3fn)
    tensors["special"] = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    tensors["scalar"] = np.float32(2.5)
    tensors["empty"] = np.zeros((0, 4), np.float32)
    tensors["text"] = np.array([b"one", b"", b"three" * 50], object)
    tensors["qint8"] = tf.quantization.quantize(tf.constant([0.5, -1.0]), -1.0, 1.0, tf.qint8).output
    for number in range(60):
        tensors[f"a/long/name/of/a/variable/that/many/others/share/with_{number}/kernel"] = np.int32(number)
    tensors["\u00e4\u4e16/\U0001f600"] = np.float32(1)
    prefix = FOLDER / "types" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
    )
    expect(prefix)


def write_slices() -> None:
    """Write variables that were made in parts, along either axis, in parts of unequal size, and beside whole ones."""
    prefix = FOLDER / "slices" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        initializer = v1.random_normal_initializer(seed=1)
        for name, shape, partitioner, dtype in (
            ("rows", (10, 4), v1.fixed_size_partitioner(3), tf.float32),
            ("columns", (4, 10), v1.fixed_size_partitioner(3, axis=1), tf.float32),
            ("bytes", (300, 7), v1.variable_axis_size_partitioner(2000), tf.float32),
            ("double", (7, 2), v1.min_max_variable_partitioner(5, min_slice_size=16), tf.float64),
            ("single", (4, 4), v1.fixed_size_partitioner(1), tf.float32),
            ("long", (200,), v1.fixed_size_partitioner(150), tf.float32),
        ):
            v1.get_variable(name, shape, dtype, initializer, partitioner=partitioner)
        v1.get_variable("whole", (3, 3), initializer=initializer)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(prefix), write_meta_graph=False, write_state=False)
    expect(prefix)


def write_extents() -> None:
    """Write slices whose place is said in other ways: whole axes, a grid, and starts of several bytes."""
    prefix = FOLDER / "extents" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    grid = values((4, 6))
    parts = {
        "whole_axis": {"4 6 -:0,3": grid[:, :3], "4 6 -:3,3": grid[:, 3:]},
        "grid": {f"4 6 {row},2:{column},3": grid[row : row + 2, column : column + 3] for row in (0, 2) for column in (0, 3)},
    }
    names, extents, tensors = zip(
        *((name, extent, tf.constant(part)) for name, held in parts.items() for extent, part in held.items()), strict=True
    )
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=extents, tensors=tensors)
    expect(prefix)
    # Single slices of much larger variables, which nobody can put together: only their keys are of interest.
    places = [f"{1 << 40} {start},1" for start in (63, 64, 8191, 8192, 1_048_575, 20_000_000, (1 << 40) - 1)]
    tf.raw_ops.SaveV2(
        prefix=str(prefix.with_name("far")),
        tensor_names=["far"] * len(places),
        shape_and_slices=places,
        tensors=[tf.constant([1], tf.uint8)] * len(places),
    )


def write_sharded() -> None:
    prefix = FOLDER / "sharded" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    config = v1.ConfigProto(device_count={"CPU": 3})
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        for number in range(12):
            with tf.device(f"/cpu:{number % 3}"):
                v1.get_variable(f"layer_{number}/kernel", initializer=values((3, number)))
        with tf.device("/cpu:1"):
            v1.get_variable("cut", (8, 3), initializer=v1.ones_initializer(), partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver(sharded=True).save(session, str(prefix), write_meta_graph=False, write_state=False)
    expect(prefix)


def write_objects() -> None:
    """Write what TensorFlow 2 saves: names are paths of attributes, and the graph of the objects is stored too."""

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(values((3, 4)))
            self.layers = [tf.Variable(values((4,))), tf.Variable(values((4,)))]

    prefix = FOLDER / "objects" / "ckpt"
    prefix.parent.mkdir(parents=True)
    tf.train.Checkpoint(net=Net(), step=tf.Variable(7, dtype=tf.int64)).save(str(prefix))
    (prefix.parent / "checkpoint").unlink()  # it holds the time of writing
    expect(prefix.parent / "ckpt-1")


def write_many() -> None:
    """Write 10,000 variables in 5 shards; the value of each is its number. Their index has more than one block."""
    prefix = FOLDER / "many" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    parts = [f"{prefix}-part-{shard}" for shard in range(5)]
    for shard, part in enumerate(parts):
        held = range(shard, 10_000, 5)
        tf.raw_ops.SaveV2(
            prefix=part,
            tensor_names=[f"model/layer_{number // 20}/weight_{number}" for number in held],
            shape_and_slices=[""] * len(held),
            tensors=[tf.constant([[number]], tf.int16) for number in held],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))
    reader = tf.train.load_checkpoint(str(prefix))
    assert len(reader.get_variable_to_shape_map()) == 10_000
    assert reader.get_tensor("model/layer_499/weight_9999") == 9999


def write_version_1() -> None:
    prefix = FOLDER / "version_1" / "model.ckpt"
    prefix.parent.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("a", initializer=values((2, 3)))
        v1.get_variable("b", initializer=values((4,)))
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        saver.save(session, str(prefix), write_meta_graph=False, write_state=False)
    # What our error tells people to do.
    reader = tf.train.load_checkpoint(str(prefix))
    names = list(reader.get_variable_to_shape_map())
    converted = str(prefix.with_name("converted"))
    tensors = [reader.get_tensor(name) for name in names]
    tf.raw_ops.SaveV2(prefix=converted, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    expect(Path(converted))


def rewrite_types() -> None:
    """Write two forms that TensorFlow reads and does not write: a compressed index, and the other byte order."""
    source = FOLDER / "types" / "model.ckpt"
    entries = bundle.read_table(source.with_name("model.ckpt.index").read_bytes())
    data = source.with_name("model.ckpt.data-00000-of-00001").read_bytes()

    snappy = FOLDER / "snappy" / "model.ckpt"
    snappy.parent.mkdir()
    snappy.with_name("model.ckpt.index").write_bytes(bundle.table(entries, compress=True))
    snappy.with_name("model.ckpt.data-00000-of-00001").write_bytes(data)
    expect(snappy)

    turned = FOLDER / "big_endian" / "model.ckpt"
    turned.parent.mkdir()
    content = bytearray()
    changed: dict[bytes, bytes] = {b"": bundle.header(big_endian=True)}
    for key, value in entries.items():
        if key in (b"", b"text", b"qint8", b"float8_e5m2", b"float8_e4m3fn"):
            continue
        fields = dict(bundle.read_fields(value))
        dtype, offset, size = (fields.get(number, 0) for number in (1, 4, 5))
        assert isinstance(dtype, int) and isinstance(offset, int) and isinstance(size, int)
        numpy_type = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
        step = numpy_type.itemsize // (2 if numpy_type.kind == "c" else 1)
        stored = data[offset : offset + size]
        stored = b"".join(stored[start : start + step][::-1] for start in range(0, size, step))
        shape = [int(axis) for axis in tf.train.load_checkpoint(str(source)).get_variable_to_shape_map()[key.decode()]]
        changed[key] = bundle.entry(dtype, shape, len(content), size, bundle.crc32c(stored))
        content += stored
    turned.with_name("model.ckpt.index").write_bytes(bundle.table(changed))
    turned.with_name("model.ckpt.data-00000-of-00001").write_bytes(content)
    expect(turned)


def expect(prefix: Path) -> None:
    """Write `expected.safetensors`: what TensorFlow reads, and by `types` what it says of it.

    Complex numbers of 128 bits, which that format does not have, become pairs. Text is only named.
    """
    reader = tf.train.load_checkpoint(str(prefix))
    types = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
    held: dict[str, np.ndarray] = {}
    for name in sorted(types):
        if types[name] == "string" or types[name].startswith("q"):
            continue
        value = np.asarray(reader.get_tensor(name))
        assert list(value.shape) == reader.get_variable_to_shape_map()[name]
        if value.dtype == np.complex128:
            value = np.stack([value.real, value.imag], -1)
        held[name] = value
    # Written by hand, for the library does not take every type from numpy; wide ones first, so that all are aligned.
    header: dict[str, object] = {"__metadata__": {"types": json.dumps(types, sort_keys=True)}}
    content = b""
    for name, value in sorted(held.items(), key=lambda item: -item[1].itemsize):
        stored = np.ascontiguousarray(value).tobytes()
        place = [len(content), len(content) + len(stored)]
        header[name] = {"dtype": SAFETENSORS[value.dtype.name], "shape": list(value.shape), "data_offsets": place}
        content += stored
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    prefix.with_name("expected.safetensors").write_bytes(struct.pack("<Q", len(described)) + described + content)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for step in (
        write_models,
        write_types,
        write_slices,
        write_extents,
        write_sharded,
        write_objects,
        write_many,
        write_version_1,
        rewrite_types,
    ):
        print(step.__name__)
        step()


if __name__ == "__main__":
    main()
