"""``python -m nni_autoformer``, the same as the command ``nni-autoformer``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
