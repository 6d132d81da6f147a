"""`python -m trio_jobs._cli`: the same as `trio-jobs`."""

import sys

from trio_jobs._cli.main import main

sys.exit(main())
