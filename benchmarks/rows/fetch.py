"""Fetching: what is here already, and one large file from a server on this machine, cold each time.

The hub's library verifies nothing of a large file; ours and `curl` then `sha256sum` do.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Sample, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.large_file import LargeFile
from benchmarks.servers import LARGE
from benchmarks.stage import Stage

_PROCESSES = 8
_CURL = "curl alone, which verifies nothing"
MEASURES = (
    Measure(
        "fetch.warm",
        "warm `fetch` of a cached name, in process",
        "s",
        peer="hf_hub_download of one cached file, its server within reach",
        floor="os.stat",
        bars=(Bar("ours", 0.001), Bar("peer", 0.05)),
    ),
    Measure(
        "fetch.cold-process",
        "cold fetch of 400 MB, verified, whole process",
        "s",
        peer="curl, then sha256sum",
        floor=_CURL,
        bars=(Bar("peer", 0.8),),
        warm_up=True,
    ),
    Measure(
        "fetch.cold",
        "cold fetch of 400 MB from a hub, verified, in process",
        "s",
        peer="hf_hub_download, which verifies nothing",
        floor=_CURL,
        bars=(Bar("peer", 0.7),),
        warm_up=True,
    ),
    Measure(
        "fetch.slow",
        "the same at 20 MB/s per connection",
        "s",
        peer="hf_hub_download",
        floor="8 curl, a part of the file each",
        bars=(Bar("peer", 0.2),),
    ),
    Measure(
        "fetch.together",
        "8 processes, cold cache, one model, until the last has it, in process",
        "s",
        peer="ours, one process",
        bars=(Bar("peer", 1.2),),
        warm_up=True,
    ),
    Measure(
        "fetch.together-bytes",
        "8 processes, cold cache, one model: bytes that the server sent",
        "of file",
        peer="ours, one process",
        floor="the bytes of the model's files",
        bars=(Bar("floor", 1.0),),
    ),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    large = LargeFile(stage, inputs)
    what = measure.key.removeprefix("fetch.")
    if what == "warm":
        large.clear()
        name, warm = inputs.name("gpt2"), stage.folder / "warm-hub"
        variables = {"HF_ENDPOINT": large.server.url}
        options = {"warm": True, "times": 30, "in_a_row": 20}
        file = str(large.folder / LARGE)
        return {
            "ours": lambda: stage.sample("fetch", variables, side="ours", name=name, **options),
            "peer": lambda: stage.sample("fetch", variables, side="peer", repo="acme/model", cache=str(warm), **options),
            "floor": lambda: stage.sample("fetch", side="floor", file=file, **options),
        }
    curl: Trial = lambda: large.curl(check=False)  # noqa: E731  # one of three in a table
    if what == "cold-process":
        return {"ours": large.process, "peer": lambda: large.curl(check=True), "floor": curl}
    if what == "cold":
        return {"ours": lambda: large.ours("large-of-hub"), "peer": lambda: large.hub("acme/model"), "floor": curl}
    if what == "slow":
        slow = large.curl_in_parts
        return {"ours": lambda: large.ours("large-slow"), "peer": lambda: large.hub("acme/slow"), "floor": slow}
    which = 0 if what == "together" else 1
    both: dict[Side, Trial] = {
        "ours": lambda: Sample(large.together(_PROCESSES)[which]),
        "peer": lambda: Sample(large.together(1)[which]),
    }
    return both if which == 0 else {**both, "floor": lambda: Sample(1.0)}
