"""Settings for all tests: the same examples on every run, so that a red test is a change and not luck."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# for planted bugs: that there is one is all that is asked
settings.register_profile("find", settings.get_profile("fixed"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("TRIO_JOBS_HYPOTHESIS", "fixed"))
