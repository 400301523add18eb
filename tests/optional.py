"""Marks of tests that need a package which does not come with arr_trl."""

from importlib.util import find_spec

import pytest


# a base in int8
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
