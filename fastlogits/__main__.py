"""``python -m fastlogits``: the command line."""

import sys

from fastlogits.cli import main

sys.exit(main())
