"""Duplicates, near-duplicates and what their labels say, on constructed pictures."""

import numpy as np
import pandas as pd
import pytest

from facekit import duplicates, labels


def texture(seed):
    return np.random.default_rng(seed).integers(40, 200, (48, 48)).astype("uint8")


def smooth(seed):
    """Make a picture whose halves of 24×24 hold all there is in it."""
    small = np.random.default_rng(seed).integers(40, 200, (24, 24))
    return np.kron(small, np.ones((2, 2), int)).astype("uint8")


def audit_of(images, splits, **columns):
    """Audit pictures; returns their table, audit and marks."""
    table = pd.DataFrame({"split": splits, "age": 30, "gender": 0, "ethnicity": 0})
    table = table.assign(**columns)
    found = duplicates.audit(table, np.stack(list(images)))
    return table, found, duplicates.mark(table, found)


NOISE = np.random.default_rng(9).integers(-1, 2, (48, 48))


@pytest.mark.parametrize(
    ("change", "identical", "near"),
    {
        "the same pixels": (lambda face: face, True, True),
        "brighter": (lambda face: face + 30, False, True),
        "more contrast": (lambda face: (face * 1.2).astype("uint8"), False, True),
        "a little noise": (lambda face: (face + NOISE).astype("uint8"), False, True),
        "moved by half": (lambda face: np.roll(face, 24, axis=1), False, False),
        "mirrored": (lambda face: face[:, ::-1], False, False),
        "negative": (lambda face: 255 - face, False, False),
    }.values(),
)
def test_which_changes_make_a_duplicate(change, identical, near):
    face = smooth(1)
    images = [face, smooth(2), change(face), smooth(3)]
    _, _, marks = audit_of(images, ["train", "val", "test", "test"])
    assert marks["identical"].tolist() == [identical, False, identical, False]
    assert marks["near"].tolist() == [near, False, near, False]


def test_duplicates_within_a_set_are_counted_but_not_marked():
    images = [texture(1), texture(1), texture(2), texture(3)]
    table, found, marks = audit_of(images, ["train", "train", "val", "test"])
    assert not marks.to_numpy().any()
    counts = duplicates.count(table, found).set_index("Images of")
    assert counts.loc["training", "in training"] == "2 / 2"
    assert (counts.filter(like="in ") == "0 / 0").to_numpy().sum() == 8


def test_a_picture_is_not_its_own_duplicate():
    images = [texture(number) for number in range(6)]
    _, found, _ = audit_of(images, ["train", "val", "test"] * 2)
    assert not found.filter(like="in_").to_numpy().any()
    assert found.filter(like="near_").to_numpy().max() < 0.5


def test_a_set_of_one_picture_has_no_other():
    _, found, marks = audit_of(map(texture, range(3)), ["train", "val", "test"])
    assert not found.filter(like="in_").to_numpy().any()
    assert np.isfinite(found.filter(like="near_").to_numpy()).all()
    assert not marks.to_numpy().any()


def test_pictures_of_one_grey_level_correlate_with_nothing():
    grey, black = np.full((48, 48), 128, "uint8"), np.zeros((48, 48), "uint8")
    images = [grey, black, texture(1), texture(2), grey, texture(3)]
    _, found, marks = audit_of(images, ["train", "train", "val", "val", "test", "test"])
    assert np.isfinite(found.filter(like="near_").to_numpy()).all()
    assert marks["near"].tolist() == [True, False, False, False, True, False]
    assert marks["identical"].tolist() == marks["near"].tolist()


def test_correlations_are_those_of_halved_pictures(data):
    found = duplicates.audit(data.table, data.images)
    halves = data.images.reshape(300, 24, 2, 24, 2).mean(axis=(2, 4)).reshape(300, -1)
    correlation = np.corrcoef(halves)
    np.fill_diagonal(correlation, -1)
    for split in labels.SPLITS:
        inside = (data.table["split"] == split).to_numpy()
        expected = correlation[:, inside].max(axis=1)
        np.testing.assert_allclose(found[f"near_{split}"], expected, atol=1e-4)


def test_conflicts_are_counted_by_group_and_label():
    images = [texture(seed) for seed in (1, 1, 1, 2, 2, 3, 3, 4)]
    table, found, _ = audit_of(
        images,
        ["train", "val", "test", "train", "test", "train", "train", "val"],
        age=[20, 20, 21, 30, 30, 40, 40, 50],
        gender=[0, 1, 1, 0, 0, 1, 1, 0],
        ethnicity=[0, 0, 0, 2, 3, 4, 4, 1],
    )
    conflicts = {"groups": 3, "pictures": 7, "conflicting": 2}
    conflicts |= {"age": 1, "gender": 1, "ethnicity": 1}
    assert duplicates.conflicts(table, found) == conflicts
    groups = duplicates.disagreement(table, found)
    assert len(groups) == conflicts["groups"]
    for label in labels.LABELS:
        assert (groups[label] > 0).sum() == conflicts[label]


class TestDisagreement:
    def disagree(self, digest, **columns):
        table = pd.DataFrame({"age": 30, "gender": 0, "ethnicity": 0}, index=digest)
        found = pd.DataFrame({"digest": list(digest)})
        return duplicates.disagreement(table.assign(**columns), found)

    def test_pairs_differ_by_years_and_labels(self):
        groups = self.disagree(
            list("abcbxa"),
            age=[20, 30, 1, 30, 90, 25],
            gender=[0, 1, 0, 0, 0, 0],
            ethnicity=[4, 0, 1, 0, 0, 1],
        )
        assert sorted(map(tuple, groups.to_numpy())) == [(0, 1, 0), (5, 0, 1)]

    def test_three_of_a_kind_are_three_pairs(self):
        groups = self.disagree(list("aaa"), age=[10, 12, 16], ethnicity=[2, 2, 3])
        assert groups.to_numpy().tolist() == [[4, 0, pytest.approx(2 / 3)]]

    def test_without_duplicates_there_is_nothing(self):
        groups = self.disagree(list("abc"), age=[1, 2, 3])
        assert groups.empty and list(groups) == list(labels.LABELS)
        table, found, _ = audit_of(map(texture, range(6)), ["train", "val", "test"] * 2)
        assert set(duplicates.conflicts(table, found).values()) == {0}


def test_of_identical_pictures_one_answer_meets_the_label_of_most():
    digest = list("aabbcccdeeee")
    table = pd.DataFrame({"age": 30, "gender": 0, "ethnicity": 0}, index=range(8, 20))
    table["gender"] = [0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0]
    table["ethnicity"] = [0, 0, 2, 3, 4, 2, 3, 1, 4, 4, 4, 0]
    found = pd.DataFrame({"digest": digest}, index=table.index)
    best = duplicates.at_best(table, found)
    assert best["gender"].tolist() == [0, 0, 100, 100, 100, 100, 0, 0, 0, 0, 0]
    assert best["ethnicity"].tolist() == [100, 100, 0, 0, 0, 0, 0, 100, 100, 100, 0]
    assert best.index.tolist() == [*range(8, 15), *range(16, 20)]
    assert duplicates.at_best(table[7:8], found[7:8]).empty
