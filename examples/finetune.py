"""Fine-tune a BERT to tell which package of Python's standard library a docstring is from.

After `make demo`, from this checkout:

    python examples/finetune.py
    torchrun --nproc-per-node 2 examples/finetune.py

The texts are those of the Python that runs this, so nothing is downloaded. `--batch-size` is that of all processes together,
and they read the texts in the same order: one process and several end with the same model, but for rounding.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import registry

LABELS = ["asyncio", "email", "importlib", "logging", "multiprocessing", "unittest", "xml"]
NAME = "docstring-router"
Example = tuple[str, int]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune a BERT to tell which package a docstring is from.")
    parser.add_argument("--model", default="minilm", help="name, folder or URL of a BERT (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("finetuned"), help="folder to write (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="texts in one step of all processes together")
    parser.add_argument("--limit", type=int, help="use so many texts at most for training, and for validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-4)
    return parser.parse_args()


def examples() -> tuple[list[Example], list[Example]]:
    """Return texts with their labels' numbers, for training and for validation; read as data, nothing is imported."""
    found: dict[str, set[int]] = {}
    for number, package in enumerate(LABELS):
        for file in sorted(Path(sysconfig.get_path("stdlib"), package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    if len(text.split()) >= 4:
                        found.setdefault(text, set()).add(number)
    # A text belongs to one side for good, and what two packages say is no example of either.
    order = sorted((crc32(text.encode()), text, numbers.pop()) for text, numbers in found.items() if len(numbers) == 1)
    train = [(text, number) for key, text, number in order if key % 5]
    return train, [(text, number) for key, text, number in order if key % 5 == 0]


class Collator:
    """Makes a batch of examples."""

    def __init__(self, tokenizer: registry.PreTrainedTokenizer, device: torch.device) -> None:
        self.tokenizer, self.device = tokenizer, device

    def __call__(self, batch: list[Example]) -> dict[str, torch.Tensor]:
        texts, labels = zip(*batch, strict=True)
        inputs = self.tokenizer(list(texts), padding=True, truncation=True, max_length=32, return_tensors="pt")
        return {name: value.to(self.device) for name, value in (inputs | {"labels": torch.tensor(labels)}).items()}


def total(values: Iterable[float], device: torch.device) -> list[float]:
    """Return the sum of each value over all processes."""
    sums = torch.tensor(list(values), dtype=torch.float64, device=device)
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums.tolist()


@torch.inference_mode()
def correct(model: registry.PreTrainedModel, batches: Iterable[dict[str, torch.Tensor]]) -> int:
    """Return how many labels the model gets right."""
    model.eval()
    return sum(int((model(**batch).logits.argmax(-1) == batch["labels"]).sum()) for batch in batches)


def save(model: registry.PreTrainedModel, tokenizer: registry.PreTrainedTokenizer, output: Path) -> None:
    """Write the model and a catalog that gives it a name and holds it to its bytes."""
    model.save_pretrained(output / "model")
    tokenizer.save_pretrained(output / "model")
    digest = hashlib.sha256((output / "model" / registry.SAFE_WEIGHTS_NAME).read_bytes()).hexdigest()
    (output / "models.yaml").write_text(
        f"registry: 1\nmodels:\n  {NAME}:\n    family: bert\n    source: ./model\n    head: sequence-classification\n"
        f"    files:\n      {registry.SAFE_WEIGHTS_NAME}: {{sha256: {digest}}}\n"
    )


@record  # so that torchrun names the process that failed, and shows why
def main() -> None:
    options = arguments()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if options.batch_size % world:
        raise SystemExit(f"--batch-size is expected to be a multiple of the {world} processes, but is {options.batch_size}")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    torch.manual_seed(options.seed)  # of the new head
    labels = dict(enumerate(LABELS))
    # Without dropout, whose masks would depend on the number of processes.
    model = registry.load(
        options.model,
        head="sequence-classification",
        device=device,
        num_labels=len(labels),
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model.base_model.get_input_embeddings().requires_grad_(False)  # most of the weights, and few of their rows occur here
    tokenizer = registry.load_tokenizer(options.model)
    trained = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None) if world > 1 else model

    train, validation = (part[: options.limit] for part in examples())
    collate = Collator(tokenizer, device)
    sampler = DistributedSampler(train, num_replicas=world, rank=rank, seed=options.seed, drop_last=True)
    batches = DataLoader(train, options.batch_size // world, sampler=sampler, collate_fn=collate, drop_last=True)
    if not batches:
        raise SystemExit(
            f"a batch is expected to have at most as many texts as there are, {len(train)}, but has {options.batch_size}"
        )
    mine = DataLoader(validation[rank::world], 64, collate_fn=collate)
    steps = options.epochs * len(batches)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=options.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(10 * (step + 1) / steps, 1 - step / steps))
    if rank == 0:
        print(f"{len(train)} texts to learn from, {len(validation)} to check with, {len(labels)} labels, {world} process(es)")

    metrics: list[dict[str, float]] = []
    for epoch in range(options.epochs):
        started, losses = time.perf_counter(), 0.0
        sampler.set_epoch(epoch)
        trained.train()
        for step, batch in enumerate(batches, 1):
            loss = trained(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item()
            if rank == 0 and step % 10 == 0:
                print(f"epoch {epoch + 1}, step {step} of {len(batches)}: loss {losses / step:.4f}", flush=True)
        loss_sum, right = total((losses, correct(model, mine)), device)
        metrics.append({"loss": loss_sum / len(batches) / world, "accuracy": right / len(validation)})
        if rank == 0:
            seconds = time.perf_counter() - started
            print(f"epoch {epoch + 1}: loss {metrics[-1]['loss']:.4f}, accuracy {metrics[-1]['accuracy']:.3f}, {seconds:.1f} s")

    if world > 1:
        dist.destroy_process_group()
    if rank == 0:  # its file system need not be the others', so it is this process that looks whether all is there
        save(model, tokenizer, options.output)
        again = registry.ModelRegistry(catalogs=[options.output / "models.yaml"])
        reloaded, reader = again.load(NAME, device=device), Collator(again.load_tokenizer(NAME), device)
        right = correct(reloaded, DataLoader(validation, 64, collate_fn=reader))
        (options.output / "metrics.json").write_text(json.dumps({"epochs": metrics, "reloaded": right / len(validation)}))
        print(f"{NAME}, loaded by name from {options.output / 'models.yaml'}: accuracy {right / len(validation):.3f}")


if __name__ == "__main__":
    main()
