"""The `registry` command. Each command imports its modules when it runs, so that `--help` is fast."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["main"]

#: Seconds that an interrupted command has for an orderly exit.
_GRACE = 1.0


def main(name: str = "registry") -> None:
    """Run the command line. Exit codes: 0 success, 1 a registry error, 2 wrong usage, 130 interrupted."""
    with _interruptible():
        _run(name)


def _run(name: str) -> None:
    import warnings

    import click

    from registry.cli.commands import cli
    from registry.cli.layout import printable_lines
    from registry.errors import RegistryError, RegistryWarning

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"warning: {printable_lines(message)}", file=sys.stderr)

    warnings.simplefilter("default", RegistryWarning)
    warnings.showwarning = show
    try:
        code = cli.main(prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except RegistryError as error:
        print(f"error: {printable_lines(error)}", file=sys.stderr)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:  # click raises it for Ctrl-C
        raise KeyboardInterrupt from None
    except BrokenPipeError:  # `registry list | head`
        sys.stderr.close()
        sys.exit(1)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C exit soon with code 130, even if threads still wait for a server. Partial downloads are kept."""
    import os
    import signal
    import threading

    pressed, told = threading.Event(), threading.Event()

    def message() -> str:
        told.set()
        fetches = "registry.store.download" in sys.modules
        return f"interrupted{'; what has arrived is kept, and the same command goes on from there' if fetches else ''}"

    def leave() -> None:
        if not told.is_set():
            os.write(2, f"\n{message()}\n".encode())
        os._exit(130)

    def interrupt(*_: object) -> None:
        if pressed.is_set():
            leave()
        pressed.set()
        timer = threading.Timer(_GRACE, leave)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    # A shell ignores the signal for background programs, and a caller may have its own handler.
    is_mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_mine := is_mine and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(message(), file=sys.stderr)
        sys.exit(130)
    finally:
        if is_mine and not pressed.is_set():
            signal.signal(signal.SIGINT, signal.default_int_handler)
