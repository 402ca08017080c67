"""Many pictures: memory must not grow with their number, beyond the table itself."""

import importlib.util

import pytest
from notebook_cells import ROOT

SPEC = importlib.util.spec_from_file_location("load", ROOT / "benchmarks/load.py")
load = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(load)


@pytest.mark.stress
@pytest.mark.parametrize(("few", "many"), [(2_000, 10_000), (10_000, 250_000)])
def test_memory_grows_by_the_table_and_its_grey_levels_alone(few, many):
    small, large = load.measure(few), load.measure(many)
    grown = {
        step: 1024 * (large[step]["peak"] - small[step]["peak"]) / (many - few)
        for step in load.STEPS
    }
    # kB per picture: 2.3 are its grey levels, the rest labels, names and lists of them
    assert grown["check"] < 6 and grown["epoch"] < 8 and grown["predict"] < 1, grown
