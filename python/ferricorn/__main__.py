"""The console scripts: ``ferricorn`` (also ``python -m ferricorn``) and ``ferricornctl``."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the server with this process's command line and exits with its code."""
    from ferricorn import _native

    sys.exit(_native.run(sys.argv))


def ctl_main() -> None:
    """Runs ``ferricornctl`` with this process's command line and exits with its code."""
    from ferricorn import _native

    sys.exit(_native.ctl(sys.argv))


if __name__ == "__main__":
    main()
