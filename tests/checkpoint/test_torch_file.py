"""Files that `torch.save` wrote, of every age and kind: which tensors they give, and what stands beside them."""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import CheckpointError, UnsafeCheckpoint
from registry.checkpoint.open import open_checkpoint
from registry.checkpoint.tensors import TensorInfo
from registry.checkpoint.torch.file import TorchFile, scan_torch_file
from tests.checkpoint.forge import (
    call,
    dictionary,
    for_legacy,
    legacy_file,
    name,
    number,
    numbers,
    pickled,
    storage,
    tensor,
    text,
    tuple_of,
    zip_file,
)

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0])


def every_kind(zipped: bool) -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    dtypes = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    newer = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2") if zipped else ()  # torch saves but cannot load them
    return {
        **{name: torch.tensor([0, 1, 2]).to(getattr(torch, name)) for name in (*dtypes, *newer)},
        "transposed": base.t(),
        "column": base[:, 2],
        "row": base[1],
        "shared": base,
        "expanded": torch.arange(5).expand((1, -1)),
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "frozen": torch.nn.Parameter(torch.tensor([3]), requires_grad=False),
    }


def saved(path: Path, value: object, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_equal(found: Any, expected: dict[str, torch.Tensor]) -> None:
    assert list(found.names()) == list(expected)
    for key, value in expected.items():
        assert found.info(key) == TensorInfo.of(value), key
        actual = found.tensor(key)
        assert actual.dtype == value.dtype and not actual.requires_grad, key
        assert torch.equal(actual.double(), value.detach().double()), key


@FORMS
@pytest.mark.parametrize("mapped", [True, False])
def test_every_kind_of_tensor(tmp_path: Path, zipped: bool, mapped: bool) -> None:
    tensors = every_kind(zipped)
    path = saved(tmp_path / "x", OrderedDict(tensors), zipped)
    assert_equal(open_checkpoint(path, mapped=mapped), tensors)
    assert_equal(open_checkpoint(path), torch.load(path, weights_only=True))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", [
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
    "complex32", "complex64", "complex128",
])  # fmt: skip
def test_every_dtype_that_torch_saves_is_named(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name)
    values = torch.arange(6 * dtype.itemsize, dtype=torch.uint8).view(dtype).reshape(2, 3)
    for zipped in (True, False) if name in ("complex64", "complex128") else (True,):  # torch has no older form of others
        for mapped in (True, False):
            found = open_checkpoint(saved(tmp_path / "x", {"a": values.t()}, zipped), mapped=mapped)
            assert found.info("a") == TensorInfo(name, (3, 2), 6 * dtype.itemsize)
            assert found.tensor("a").dtype == dtype
            assert found.tensor("a").t().view(torch.uint8).equal(values.view(torch.uint8))


@FORMS
def test_strides_that_are_of_no_meaning_may_be_of_any_size(tmp_path: Path, zipped: bool) -> None:
    far = 1 << 62
    tensors = {"one": ((1,), (far,)), "row": ((1, 4), (far, 1)), "none": ((0, 3), (far, far)), "some": ((1, 2, 1), (5, 2, 0))}
    body = dictionary({key: tensor(storage("0", 4), *where) for key, where in tensors.items()})
    values = VALUES.numpy().tobytes()
    form = zip_file(pickled(body), {"data/0": values}) if zipped else legacy_file(pickled(for_legacy(body)), {"0": (4, values)})
    (tmp_path / "x").write_bytes(form)
    expected = {"one": VALUES[:1], "row": VALUES[None], "none": torch.zeros(0, 3), "some": VALUES[::2].reshape(1, 2, 1)}
    assert_equal(open_checkpoint(tmp_path / "x"), expected)


@FORMS
def test_tensors_that_shared_memory_share_it(tmp_path: Path, zipped: bool) -> None:
    found = open_checkpoint(saved(tmp_path / "x", every_kind(zipped), zipped))
    pointers = {found.tensor(name).untyped_storage().data_ptr() for name in ("transposed", "column", "row", "shared")}
    assert len(pointers) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 4), min_size=1, max_size=3),
            st.slices(4),
            st.booleans(),
            st.sampled_from(["float32", "float16", "int64", "bool"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_any_view_is_what_torch_says_it_is(
    tmp_path_factory: pytest.TempPathFactory, views: list[tuple[list[int], slice, bool, str]], zipped: bool
) -> None:
    tensors = {}
    for index, (shape, part, turned, dtype) in enumerate(views):
        if (part.step or 1) < 0:
            part = slice(part.start, part.stop, -part.step)  # torch has no negative steps
        whole = torch.arange(math.prod(shape)).to(getattr(torch, dtype)).reshape(shape)
        tensors[f"whole.{index}"] = whole
        tensors[f"part.{index}"] = (whole.transpose(0, -1) if turned else whole)[part]
    path = saved(tmp_path_factory.getbasetemp() / f"views.{zipped}", tensors, zipped)
    found = TorchFile(path)
    for key, value in torch.load(path, weights_only=True).items():
        assert found.info(key) == TensorInfo.of(value)
        assert torch.equal(found.tensor(key), value) and torch.equal(value, tensors[key])


@FORMS
def test_a_module_says_its_version_beside_its_tensors(tmp_path: Path, zipped: bool) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert hasattr(state, "_metadata")
    assert_equal(open_checkpoint(saved(tmp_path / "x", state, zipped)), dict(state))


@pytest.mark.parametrize("kind", ["FloatStorage", "cuda.FloatStorage"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1", "mps", "xla:0", "hpu", "npu:3", "a machine of the future"])
def test_tensors_come_to_the_cpu_from_wherever_they_were_saved(tmp_path: Path, device: str, kind: str) -> None:
    body = dictionary({"a": tensor(storage("0", 4, kind, device), (2, 2), (1, 2))})
    values = VALUES.numpy().tobytes()
    (tmp_path / "zip").write_bytes(zip_file(pickled(body), {"data/0": values}))
    (tmp_path / "legacy").write_bytes(legacy_file(pickled(for_legacy(body)), {"0": (4, values)}))
    for form in ("zip", "legacy"):
        assert_equal(open_checkpoint(tmp_path / form), {"a": VALUES.reshape(2, 2).t()})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_of_a_device_without_storages_come_as_cpu_tensors(tmp_path: Path, dtype: str) -> None:
    inner = tensor(storage("0", 4), (4,), (1,))
    outer = call("torch._utils._rebuild_device_tensor_from_cpu_tensor", inner, name(f"torch.{dtype}"), text("xla:1"), b"\x89")
    (tmp_path / "x").write_bytes(zip_file(pickled(dictionary({"a": outer})), {"data/0": VALUES.numpy().tobytes()}))
    if dtype == "float32":
        assert_equal(open_checkpoint(tmp_path / "x"), {"a": VALUES})
    else:  # a copy of another size: torch.save never asks for one
        with pytest.raises(UnsafeCheckpoint, match="of another dtype"):
            open_checkpoint(tmp_path / "x")


def test_storages_of_2017_are_parts_of_others(tmp_path: Path) -> None:
    part = storage("0", 4, "FloatStorage", "cpu", tuple_of(text("v"), number(1), number(2)))
    body = dictionary({"a": tensor(part, (2,), (1,)), "b": tensor(part, (1,), (1,), 1)})
    (tmp_path / "x").write_bytes(legacy_file(pickled(body), {"0": (4, VALUES.numpy().tobytes())}))
    assert_equal(open_checkpoint(tmp_path / "x"), {"a": VALUES[1:3], "b": VALUES[2:3]})


def test_a_file_that_python_2_wrote(tmp_path: Path) -> None:
    def old(value: str) -> bytes:
        return b"U" + bytes([len(value.encode())]) + value.encode()

    held = tuple_of(old("storage"), name("torch.FloatStorage"), old("0"), old("cuda:0"), number(4), b"N") + b"Q"
    hooks = call("collections.OrderedDict", b"]")
    v2 = call("torch._utils._rebuild_tensor_v2", held, number(0), numbers(4), numbers(1), b"\x88", hooks)
    body = call("collections.OrderedDict", b"](](" + old("größe.weight") + v2 + b"ee")
    (tmp_path / "x").write_bytes(legacy_file(pickled(body), {"0": (4, VALUES.numpy().tobytes())}))
    assert_equal(open_checkpoint(tmp_path / "x"), {"größe.weight": VALUES})


def test_a_file_without_sums_is_read(tmp_path: Path) -> None:
    from torch.serialization import set_crc32_options

    set_crc32_options(False)
    try:
        torch.save({"a": VALUES}, tmp_path / "x")
    finally:
        set_crc32_options(True)
    found = TorchFile(tmp_path / "x")
    found.check_sums()
    assert_equal(found, {"a": VALUES})


def test_zip64_records_are_read(tmp_path: Path) -> None:
    torch.save({"a": VALUES}, tmp_path / "small")
    with zipfile.ZipFile(tmp_path / "small") as source, zipfile.ZipFile(tmp_path / "x", "w") as target:
        for info in source.infolist():
            with target.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as member:
                member.write(source.read(info))
    assert_equal(open_checkpoint(tmp_path / "x"), {"a": VALUES})


def test_a_changed_record_is_found_where_somebody_asks(tmp_path: Path) -> None:
    torch.save({"a": VALUES}, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    at = whole.index(VALUES.numpy().tobytes())
    (tmp_path / "y").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    TorchFile(tmp_path / "x").check_sums()
    changed = TorchFile(tmp_path / "y")
    assert not torch.equal(changed.tensor("a"), VALUES)  # nothing is read that is not asked for
    with pytest.raises(CheckpointError, match=r"record 'data/0' .* CRC-32"):
        changed.check_sums()


def test_nothing_is_read_before_a_tensor_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "x", {"a": torch.zeros(1000)}, zipped=False)
    found = TorchFile(path)
    assert found.info("a") == TensorInfo("float32", (1000,), 4000)
    torch.save({"a": torch.ones(1000)}, tmp_path / "y", _use_new_zipfile_serialization=False)
    (tmp_path / "y").replace(path)
    with pytest.raises(CheckpointError, match="stay as it is"):
        found.tensor("a")


def training(state: Any, name: str) -> dict[str, Any]:
    """What training scripts save."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4, 4])
    return {
        "epoch": 3,
        name: state,
        "optimizer": optimizer.state_dict(),
        "scheduler": {key: value for key, value in scheduler.state_dict().items() if isinstance(value, int | Counter)},
        "rng": torch.get_rng_state(),
        "shape": torch.Size([2, 3]),
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "history": [(1, 0.5), (2, 0.25)],
        "note": "text",
    }


@FORMS
@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "module"])
def test_the_state_dict_within_a_training_checkpoint(tmp_path: Path, name: str, zipped: bool) -> None:
    path = saved(tmp_path / "x", training(OrderedDict(a=VALUES), name), zipped)
    found = TorchFile(path)
    assert_equal(found, {"a": VALUES})
    assert found.container == name
    assert "collections.Counter" in found.report.globals and not found.report.refused


def test_two_state_dicts_in_one_file_are_not_guessed_between(tmp_path: Path) -> None:
    torch.save({"model": {"a": VALUES}, "state_dict": {"a": VALUES}, "ema": {}}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="one state dict, but holds state_dict and model; save one"):
        open_checkpoint(tmp_path / "x")


def test_a_tensor_that_is_called_model_is_a_tensor(tmp_path: Path) -> None:
    torch.save({"model": VALUES, "module": VALUES}, tmp_path / "x")
    assert_equal(open_checkpoint(tmp_path / "x"), {"model": VALUES, "module": VALUES})
    assert TorchFile(tmp_path / "x").container is None


def test_what_is_no_tensor_in_the_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"a": VALUES, "b": {"c": VALUES}}}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"value 'b' of model of checkpoint .* tensor, but is of type dict; save"):
        open_checkpoint(tmp_path / "x")
    torch.save({"a": VALUES, "b": 3}, tmp_path / "y")
    with pytest.raises(CheckpointError, match="value 'b' of checkpoint"):
        open_checkpoint(tmp_path / "y")


@FORMS
def test_a_global_beside_the_state_dict_is_refused_by_name(tmp_path: Path, zipped: bool) -> None:
    from argparse import Namespace

    path = saved(tmp_path / "x", {**training(OrderedDict(a=VALUES), "model"), "args": Namespace(lr=0.1)}, zipped)
    with pytest.raises(UnsafeCheckpoint, match=r"would call argparse\.Namespace; nothing was run") as caught:
        open_checkpoint(path)
    assert caught.value.globals == ("argparse.Namespace",)
    report = scan_torch_file(path)
    assert report.refused == ("argparse.Namespace",) and "collections.OrderedDict" in report.globals
    assert report.pickles == (1 if zipped else 5) and report.operations > 100


def test_a_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x")
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear.* save its state_dict"):
        open_checkpoint(tmp_path / "x")


def test_other_protocols_of_torch_save_are_told_apart_from_damage(tmp_path: Path) -> None:
    torch.save({"a": VALUES}, tmp_path / "x", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="FRAME, which torch.save does not write unless told to"):
        open_checkpoint(tmp_path / "x")


def test_a_script_is_code(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            archive.writestr(name, b"")
    (tmp_path / "x").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="TorchScript archive"):
        open_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("name", ["../../x\0", "/etc/passwd", "a/../b", "", "__metadata__", "a\nb"])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    torch.save({name: VALUES}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="name .* is expected to be a tensor's, but"):
        open_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("name", ["bert/encoder/layer_0", "a.b", "..a", "a..b", "größe", "a:b", "x/..y", "model/.hidden"])
def test_a_name_with_slashes_and_dots_in_words_is_a_name(tmp_path: Path, name: str) -> None:
    torch.save({name: VALUES}, tmp_path / "x")
    assert_equal(open_checkpoint(tmp_path / "x"), {name: VALUES})


DTYPES = [
    *(
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ),
    *("complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    *("float8_e8m0fnu", "float4_e2m1fn_x2"),
]
#: What the form of torch before 1.6 has no storage for.
NEWER = {name for name in DTYPES if name.startswith(("uint16", "uint32", "uint64", "float8", "float4")) or name == "complex32"}


def views(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every kind of view of one storage, and one of a storage of its own that begins at an odd place in the file."""
    raw = torch.arange(24 * dtype.itemsize, dtype=torch.uint8) % 2 if dtype == torch.bool else torch.arange(24 * dtype.itemsize)
    base = raw.to(torch.uint8).view(dtype).reshape(2, 3, 4)
    return {
        "whole": base,
        "transposed": base.transpose(0, 2),
        "column": base[:, :, 1],
        "last": base[1, 2],
        "steps": base[:, ::2],
        "expanded": base[:1].expand(2, 3, 4),
        "scalar": base[1, 1, 1],
        "empty": base[:0],
        "other": base.flatten()[:3].clone(),
        "diagonal": base[0].diagonal(),
    }


def with_byte_order(path: Path, order: bytes | None) -> None:
    """Write a torch file again, with another record of its byte order, or none; values then lie wherever they come to lie."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for record, data in records.items():
            if not record.endswith("/byteorder"):
                archive.writestr(record, data)
            elif order is not None:
                archive.writestr(record, order)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, form) for kind in DTYPES for form in ("zip", "little", "big", "unsaid")),
        *((kind, "legacy") for kind in DTYPES if kind not in NEWER),
    ],
)
def test_every_dtype_view_and_byte_order_is_read_as_torch_reads_it(tmp_path: Path, kind: str, form: str, mapped: bool) -> None:
    path = saved(tmp_path / "x", views(getattr(torch, kind)), form != "legacy")
    if form not in ("zip", "legacy"):
        with_byte_order(path, None if form == "unsaid" else form.encode())
    expected = torch.load(path, weights_only=True)
    found = open_checkpoint(path, mapped=mapped)
    for key, value in expected.items():
        actual = found.tensor(key)
        assert (actual.dtype, actual.shape, actual.stride(), actual.storage_offset()) == (
            *(value.dtype, value.shape, value.stride(), value.storage_offset()),
        ), key
        assert bytes(actual.untyped_storage()) == bytes(value.untyped_storage()), key
    addresses = {found.tensor(key).untyped_storage().data_ptr() for key in expected if key != "other"}
    assert len(addresses) == len({expected[key].untyped_storage().data_ptr() for key in expected if key != "other"})


def test_a_byte_order_that_is_none_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x", {"a": VALUES}, True)
    with_byte_order(path, b"middle")
    with pytest.raises(CheckpointError, match="'byteorder' .* expected to be little or big, but is neither"):
        open_checkpoint(path)
    with pytest.raises(ValueError, match="Unknown endianness"):
        torch.load(path, weights_only=True)


def test_torchs_unpickler_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x", {"a": VALUES}, True)
    monkeypatch.setattr(torch, "load", None)
    assert open_checkpoint(path).tensor("a").equal(VALUES)


@FORMS
def test_sparse_tensors_are_refused_with_the_way_out(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "x", {"a": torch.eye(3).to_sparse()}, zipped)
    with pytest.raises(UnsafeCheckpoint, match=r"_rebuild_sparse_tensor; .* with `\.to_dense\(\)` for its sparse tensors"):
        open_checkpoint(path)
