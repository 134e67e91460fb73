"""Where the command ``rlad`` begins. Ctrl-C ends it with a word, also while its own modules are imported."""

import sys


def main() -> int:
    """Run the command line; returns the exit code, see `services.cli.app`."""
    try:
        from services.cli.app import run

        return run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
