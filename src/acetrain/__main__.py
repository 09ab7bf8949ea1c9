"""`python -m acetrain` is the command `acetrain`."""

import sys

from acetrain.cli import main

sys.exit(main())
