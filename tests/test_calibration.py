"""Reliability, calibration error, and the temperature that mends it."""

import numpy as np
import pytest

from studies import calibration

RNG = np.random.default_rng(3)
STATED = RNG.uniform(0.5, 1, 20_000)


def test_reliability_has_bins_of_equally_many():
    stated = np.array([0.9, 0.5, 0.8, 0.6])
    table = calibration.reliability(stated, np.array([1.0, 0, 1, 1]), bins=2)
    assert table["stated"].tolist() == pytest.approx([0.55, 0.85])
    assert table["right"].tolist() == [0.5, 1] and table["n"].tolist() == [2, 2]


def test_a_calibrated_network_is_within_chance_and_another_is_not():
    right = RNG.random(len(STATED)) < STATED
    limit = calibration.chance_error(STATED, draws=100)
    assert 0 < calibration.expected_error(STATED, right) < 1.3 * limit < 0.02
    boastful = RNG.random(len(STATED)) < STATED - 0.1
    assert calibration.expected_error(STATED, boastful) == pytest.approx(0.1, abs=0.01)
    told = calibration.judge(STATED, boastful)
    over = float(told["Stated − right (points)"].partition(" ")[0])
    assert over == pytest.approx(10, abs=1) and len(told) == 3
    modest = calibration.judge(STATED - 0.1, right)["Stated − right (points)"]
    assert modest.startswith("−") and "-" not in modest


def test_the_temperature_that_was_applied_is_found_again():
    logits = RNG.normal(0, 2, (20_000, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = (shares.cumsum(axis=1) > RNG.random((len(shares), 1))).argmax(axis=1)
    assert calibration.fit_temperature(shares, drawn) == pytest.approx(1, abs=0.05)
    sharp = calibration.with_temperature(shares, 0.5)
    assert calibration.fit_temperature(sharp, drawn) == pytest.approx(2, abs=0.1)
    mended = calibration.with_temperature(sharp, 2)
    np.testing.assert_allclose(mended, shares, atol=1e-6)


def test_a_temperature_changes_no_decision_and_bears_certainty():
    shares = np.array([[1.0, 0.0], [0.3, 0.7], [0.5, 0.5]])
    soft = calibration.with_temperature(shares, 3)
    assert np.isfinite(soft).all() and np.allclose(soft.sum(axis=1), 1)
    assert soft[0, 0] > 0.99 and 0.5 < soft[1, 1] < 0.7
