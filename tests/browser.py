"""What the tests of pages need: a Chromium and the package that drives it."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Final

import pytest

CHROMIUM: Final = shutil.which("chromium")
MISSING: Final = [
    name
    for name, there in (("chromium", CHROMIUM), ("playwright", importlib.util.find_spec("playwright")))
    if not there
]
needs_browser = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and no '.join(MISSING)} here: run `make browser`"
)
