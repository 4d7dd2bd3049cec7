"""The `registry` command. Each command imports what it needs when it runs, so that `--help` costs nothing."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the exit code is 0, 1 for an error of ours, 2 for wrong usage."""
    import warnings

    from registry.cli.commands import cli
    from registry.cli.layout import printable_lines
    from registry.errors import RegistryError, RegistryWarning

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"warning: {printable_lines(message)}", file=sys.stderr)

    warnings.simplefilter("default", RegistryWarning)
    warnings.showwarning = show
    try:
        cli(prog_name="registry")
    except RegistryError as error:
        print(f"error: {printable_lines(error)}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `registry list | head`
        sys.stderr.close()
        sys.exit(1)
