"""Names, digests, and which set a picture belongs to."""

import numpy as np
import pandas as pd
import pytest

from facekit import labels


def table_of(count, female=0.5):
    gender = (np.arange(count) % 100 < 100 * female).astype(int)
    names = [f"picture {number}.jpg" for number in range(count)]
    return pd.DataFrame({"img_name": names, "gender": gender})


def own_digests(count):
    return np.array([f"digest {number}" for number in range(count)])


NOTHING = pd.Series(dtype=object)


class TestDigests:
    def test_a_digest_is_the_same_on_every_machine(self):
        value = {"filters": [4, 8], "dropout": 0.25, "images": None, "name": "é"}
        assert labels.digest(value) == "4fff5f"
        assert labels.digest({"b": [1, 2], "a": 1}) == labels.digest(
            {"a": 1, "b": (1, 2)}
        )

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.5}, {"a": "1"}, {"b": 1}, {}])
    def test_other_values_have_other_digests(self, other):
        assert labels.digest({"a": 1}) != labels.digest(other)

    def test_pictures_have_one_digest_for_equal_pixels_alone(self):
        face = np.random.default_rng(1).integers(0, 256, (48, 48)).astype("uint8")
        other = face.copy()
        other[47, 47] ^= 1
        first, again, changed = labels.digest_pictures(np.stack([face, face, other]))
        assert first == again != changed


class TestSplits:
    def test_the_table_is_the_assignments(self, tmp_path):
        known = labels.read_split_table()
        assert known.value_counts().to_dict() == {
            "train": 15_026,
            "test": 4_696,
            "val": 3_757,
        }
        assert known.index.is_unique
        with pytest.raises(FileNotFoundError, match="gone.csv is not there.*again"):
            labels.read_split_table(tmp_path / "gone.csv")

    @pytest.mark.parametrize("female", [0.5, 0.2])
    def test_unknown_names_are_split_64_16_20_stratified(self, female):
        table = table_of(1000, female)
        split = labels.assign_splits(table, own_digests(1000), NOTHING, seed=1)
        sizes = pd.Series(split).value_counts(normalize=True)
        assert sizes.to_dict() == pytest.approx(
            {"train": 0.64, "test": 0.2, "val": 0.16}, abs=0.005
        )
        shares = table["gender"].groupby(split).mean()
        assert shares.to_numpy() == pytest.approx(female, abs=0.025)

    def test_the_seed_decides_and_nothing_else(self):
        table, digests = table_of(200), own_digests(200)
        first, again, other = (
            labels.assign_splits(table, digests, NOTHING, seed) for seed in (1, 1, 2)
        )
        assert (first == again).all() and (first != other).any()

    def test_known_names_keep_their_sets(self):
        table = table_of(300)
        sets = np.resize(["test", "val", "train"], 150)
        known = pd.Series(sets, index=table["img_name"][:150].map(labels.hash_name))
        split = labels.assign_splits(table, own_digests(300), known, seed=1)
        assert (split[:150] == sets).all()
        rest = pd.Series(split[150:]).value_counts().to_dict()
        assert rest == {"train": 96, "test": 30, "val": 24}

    def test_identical_pictures_stay_in_one_set_known_ones_too(self):
        table, digests = table_of(300), own_digests(300)
        digests[100:200] = digests[:100]
        digests[200:250] = digests[:50]
        known = pd.Series(["val"], index=[labels.hash_name("picture 0.jpg")])
        split = labels.assign_splits(table, digests, known, seed=1)
        assert pd.Series(split).groupby(digests).nunique().max() == 1
        assert set(split[[0, 100, 200]]) == {"val"}
        assert set(split) == set(labels.SPLITS)

    @pytest.mark.parametrize("count", [1, 2, labels.FEWEST - 1])
    def test_a_few_unknown_names_all_go_to_training(self, count):
        split = labels.assign_splits(table_of(count), own_digests(count), NOTHING, 1)
        assert set(split) == {"train"}


class TestValidationHalves:
    def test_about_half_each_once_and_for_ever(self):
        names = pd.Series([f"{number}.jpg" for number in range(2000)])
        half = labels.validation_half(names)
        assert set(half) == {"select", "held out"}
        assert 0.45 < (half == "select").mean() < 0.55
        shuffled = names.sample(frac=1, random_state=0)
        again = labels.validation_half(shuffled)[names.index]
        pd.testing.assert_series_equal(again, half)
        assert half[4:6].tolist() == ["select", "held out"]
