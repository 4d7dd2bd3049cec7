"""Run the fuzzer from the command line; the exit status is 1 when anything differs."""

from __future__ import annotations

import argparse
import sys

from tests import parity_fuzz
from tests.parity_fuzz.running import KINDS, run


def main() -> None:
    parser = argparse.ArgumentParser(description=parity_fuzz.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="run this one alone; with --seeds, the first of so many")
    parser.add_argument("--seeds", type=int, help="how many, 1000 by default")
    parser.add_argument("--kinds", "--kind", default=",".join(KINDS), help=f"some of {','.join(KINDS)}")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--kinds is expected to be some of {', '.join(KINDS)}, but has {sorted(unknown)[0]!r}")
    count = options.seeds or (1000 if options.seed is None else 1)
    first = options.seed or 0
    sys.exit(1 if run(kinds, range(first, first + count)) else 0)


if __name__ == "__main__":
    main()
