"""``python -m services`` is the command ``rlad``."""

import sys

from services.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
