"""`registry inspect` and `registry convert`: describe a checkpoint, and convert it to safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from registry.cli.layout import CACHE, JSON, OFFLINE, key_values, size_text, table

if TYPE_CHECKING:
    from registry.checkpoint.open import Inspection

__all__ = ["convert", "inspect"]


@click.command(epilog="\b\nExamples:\n  registry inspect pytorch_model.bin\n  registry inspect ./bert_model.ckpt --json")
@click.argument("source")
@click.option("--family", help="The family, which says which file names to search for.")
@CACHE
@OFFLINE
@JSON
def inspect(source: str, family: str | None, cache_dir: str | None, offline: bool | None, as_json: bool) -> None:
    """List the tensors of SOURCE (a file, folder, URL or name), its format and metadata, and the functions its pickles call.

    Values are not read, and no code in the file is run. The exit code is 1 when `load` would refuse the file.
    """
    from registry.model_registry import default_registry

    found = default_registry().inspect(source, family=family, cache_dir=cache_dir, offline=offline)
    if as_json:
        click.echo(json.dumps(_data(found), indent=2))
    else:
        for line in _lines(found):
            click.echo(line)
    if found.refused:
        click.get_current_context().exit(1)


def _data(found: Inspection) -> dict[str, Any]:
    return {
        "files": [str(path) for path in found.files],
        "format": found.format,
        "metadata": dict(found.metadata),
        "tensors": [
            {"name": name, "dtype": info.dtype, "shape": list(info.shape), "bytes": info.nbytes}
            for name, info in found.tensors.items()
        ],
        "pickles": [
            {
                "file": str(path),
                "pickles": report.pickles,
                "operations": report.operations,
                "globals": list(report.globals),
                "refused": list(report.refused),
            }
            for path, report in found.pickles.items()
        ],
        "refused": found.refused or None,
    }


def _lines(found: Inspection) -> list[str]:
    infos = found.tensors.values()
    lines = table((name, info.dtype, str(list(info.shape)), size_text(info.nbytes)) for name, info in found.tensors.items())
    what = f"{found.format}, {len(found.files)} file{'s' if len(found.files) > 1 else ''}"
    lines.append(f"{what}: {len(infos):,} tensors, {size_text(sum(info.nbytes for info in infos))}")
    lines += [f"metadata {key!a}: {value!a}" for key, value in sorted(found.metadata.items())]
    for path, report in found.pickles.items():
        lines.append(f"{path.name}: {report.pickles} pickles of {report.operations:,} operations fetch")
        lines += [f"  {name}{' (refused)' if name in report.refused else ''}" for name in report.globals]
    if found.refused:
        lines.append(f"refused: {found.refused}")
    return lines


@click.command(
    epilog="\b\nExamples:\n  registry convert ./uncased_L-12_H-768_A-12.zip bert/\n"
    "  registry convert ./gpt-release gpt/ --family gpt --dtype float16\n"
    "  registry convert ./run/model.ckpt-343 labels/ --config num_labels=3 \\\n    --tokenizer do_lower_case=false\n"
    "  registry convert bert-base-uncased bert/ --max-shard-size 200MB"
)
@click.argument("source")
@click.argument("out", type=click.Path())
@click.option("--family", help="The family, when neither name nor configuration names it.")
@click.option("--head", help="The head; by default the one that fits the weights.")
@click.option("--dtype", help="The dtype of floating point weights, such as float16; by default the source's.")
@click.option("--max-shard-size", metavar="SIZE", help="Write weights in shards of at most this size, such as 5GB.")
@click.option("--config", multiple=True, metavar="KEY=VALUE", help="Set a field of the configuration, such as num_labels=3.")
@click.option("--tokenizer", multiple=True, metavar="KEY=VALUE", help="Set an argument of the tokenizer.")
@CACHE
@OFFLINE
@JSON
def convert(
    source: str,
    out: str,
    family: str | None,
    head: str | None,
    dtype: str | None,
    max_shard_size: str | None,
    config: Sequence[str],
    tokenizer: Sequence[str],
    cache_dir: str | None,
    offline: bool | None,
    as_json: bool,
) -> None:
    """Convert SOURCE to a folder OUT with configuration, safetensors and vocabulary, which transformers can load, too.

    SOURCE is a name, folder, file or URL: a TensorFlow checkpoint, OpenAI's numpy release, an archive, torch's pickles, or
    safetensors.
    """
    from registry.checkpoint.save import parse_size
    from registry.model_registry import default_registry

    try:
        limit = None if max_shard_size is None else parse_size(max_shard_size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--max-shard-size") from error
    model = default_registry().convert(
        source,
        out,
        family=family,
        head=head,
        dtype=dtype,
        max_shard_size=limit,
        tokenizer_settings=key_values(tokenizer, "--tokenizer"),
        cache_dir=cache_dir,
        offline=offline,
        **key_values(config, "--config"),
    )
    report = model.load_report
    assert report is not None
    if as_json:
        data = {
            "folder": out,
            "class": type(model).__name__,
            "newly_initialized": list(report.newly_initialized),
            "left_out": list(report.unexpected),
            "ignored": list(report.ignored),
        }
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(f"{type(model).__name__} of {model.num_parameters():,} parameters, {model.dtype}, in {out}")
    for what, names in (("newly initialized", report.newly_initialized), ("left out", report.unexpected)):
        if names:
            click.echo(f"{what}: {', '.join(names)}", err=True)
