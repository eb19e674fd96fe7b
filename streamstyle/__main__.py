"""``python -m streamstyle``: the command line."""

import sys

from streamstyle.cli import main

sys.exit(main())
