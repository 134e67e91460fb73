"""Lets the tests beside this file share what they read."""

import sys
from pathlib import Path

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))
