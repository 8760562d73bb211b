"""What tests with a real HAProxy need of the machine."""

from __future__ import annotations

import pytest

from scenarios.balancer import REMEDY, program

needs_haproxy = pytest.mark.skipif(program() is None, reason=f"there is no haproxy here: {REMEDY}")
