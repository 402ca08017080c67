"""Sections 9 to 11: gender from colour pictures, two branches, a subclassed model."""

import types

import keras
import numpy as np
import pandas as pd
import PIL.Image
import pytest

STAMP = "20990101000000{:03d}"  # a day that no picture has


def picture(path, shade=0.5, size=(60, 60), mode="RGB"):
    """Write a picture of noise around one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path.name)).normal(255 * shade, 30, (*size, 3))
    image = PIL.Image.fromarray(values.clip(0, 255).astype("uint8")).convert(mode)
    image.save(path)


@pytest.fixture
def utkface(notebook, tmp_path, monkeypatch):
    """Write 40 pictures named as UTKFace names them, and the split that knows them."""
    generator = np.random.default_rng(3)
    known = {}
    for number in range(40):
        age, gender = int(generator.integers(1, 90)), number % 2
        stamp = STAMP.format(number)
        picture(
            tmp_path / "UTKFace" / f"{age}_{gender}_{number % 5}_{stamp}.jpg.chip.jpg",
            0.3 + 0.4 * gender,
        )
        split = "train" if number < 20 else "val" if number < 32 else "test"
        known[notebook.hash_name(f"{stamp}.jpg.chip.jpg")] = split
    known = pd.Series(known)
    monkeypatch.setattr(notebook, "read_split_table", lambda: known)
    return tmp_path / "UTKFace", known


@pytest.fixture
def colour(notebook, utkface):
    return notebook.colour_pictures(
        utkface[0].parent, {"data_name": "utkface"}, "folder"
    )


@pytest.fixture
def small(notebook):
    """Give what makes a run of a chapter train in seconds."""
    return {
        "shape": [32, 32, 3],
        "batch_size": 8,
        "epochs": 2,
        "warmup_epochs": 1,
        "share": 1.0,
        "augmentation": "none",
    }


@pytest.fixture
def chapter(notebook, colour, make_context, tmp_path):
    """Give sets and contexts of a chapter on the 40 pictures."""
    sets = {
        name: (colour["table"][colour["table"]["split"] == name], colour["folder"])
        for name in notebook.SPLITS
    }
    contexts, half = notebook.chapter_context(make_context(tmp_path), colour, sets)
    return types.SimpleNamespace(sets=sets, contexts=contexts, half=half)


@pytest.fixture
def random_weights(monkeypatch):
    """Let a network of ``keras.applications`` begin with random weights."""

    def patch(name):
        made, build = [], getattr(keras.applications, name)

        def build_untrained(include_top, weights, input_shape):
            network = build(
                include_top=include_top, weights=None, input_shape=input_shape
            )
            made.append(network)
            return network

        monkeypatch.setattr(keras.applications, name, build_untrained)
        return made

    return patch


class TestChapter:
    def test_an_error_ends_the_chapter_and_says_why(
        self, notebook, monkeypatch, capsys
    ):
        monkeypatch.setattr(notebook, "NOT_DONE", {})
        done = []
        with notebook.SKIPPABLE, notebook.chapter("B"):
            raise ValueError("no such picture")
        with notebook.SKIPPABLE, notebook.chapter("B"):
            done.append("B")
        with notebook.SKIPPABLE, notebook.chapter("B: part"):
            done.append("part")
        with notebook.SKIPPABLE, notebook.chapter("C"):
            done.append("C")
        assert done == ["C"]
        assert notebook.NOT_DONE == {"B": "ValueError: no such picture"}

    def test_a_part_fails_alone(self, notebook, monkeypatch):
        monkeypatch.setattr(notebook, "NOT_DONE", {})
        done = []
        with notebook.SKIPPABLE, notebook.chapter("B: VGG16"):
            raise RuntimeError("no weights")
        with notebook.SKIPPABLE, notebook.chapter("B"):
            done.append("B")
        assert done == ["B"] and list(notebook.NOT_DONE) == ["B: VGG16"]

    def test_what_several_need_ends_all_of_them(self, notebook, monkeypatch):
        monkeypatch.setattr(notebook, "NOT_DONE", {})
        monkeypatch.setattr(notebook, "CHAPTERS", "D")
        done = []
        with notebook.SKIPPABLE, notebook.chapter("BCD"):
            done.append("pictures")
        with notebook.SKIPPABLE, notebook.chapter("BCD"):
            raise ValueError("no pictures")
        for name in "BCD":
            with notebook.SKIPPABLE, notebook.chapter(name):
                done.append(name)
        assert done == ["pictures"]
        assert notebook.NOT_DONE == dict.fromkeys("BCD", "ValueError: no pictures")

    def test_what_chapters_does_not_name_is_skipped(self, notebook, monkeypatch):
        monkeypatch.setattr(notebook, "CHAPTERS", "C")
        with notebook.SKIPPABLE, notebook.chapter("B"):
            raise AssertionError("done")
        assert "gender_baseline" not in notebook.choose_runs("full", "folder")
        assert "mtl" in notebook.choose_runs("full", "folder")


class TestPictures:
    def test_labels_come_from_names_and_sets_from_time_stamps(self, notebook, utkface):
        table, faults = notebook.list_utkface(*utkface)
        assert len(table) == 40 and faults.empty
        row = table.iloc[7]
        age, gender, ethnicity, rest = row["img_name"].split("_")
        assert (row["age"], row["gender"], row["ethnicity"]) == tuple(
            map(int, (age, gender, ethnicity))
        )
        assert row["main_name"] == rest
        assert table["split"].value_counts().to_dict() == {
            "train": 20,
            "val": 12,
            "test": 8,
        }

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            (f"39_1_{STAMP}.jpg".format(999), "name that holds no labels"),
            (f"139_1_0_{STAMP}.jpg".format(1), "name that holds no labels"),
            (
                f"39_1_0_{STAMP}.jpg".format(999),
                "time stamp that is not in the main assignment",
            ),
            ("notes.txt", "file that is not an image"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, notebook, utkface, name, fault):
        picture(utkface[0] / "whole.jpg")
        (utkface[0] / "whole.jpg").rename(utkface[0] / name)
        table, faults = notebook.list_utkface(*utkface)
        assert len(table) == 40
        assert faults[["img_name", "fault"]].to_numpy().tolist() == [[name, fault]]

    def test_a_broken_picture_is_named(self, notebook, utkface):
        path = sorted(utkface[0].iterdir())[3]
        path.write_bytes(path.read_bytes()[:400])
        table, faults = notebook.list_utkface(*utkface)
        assert len(table) == 39
        assert faults["img_name"].tolist() == [path.name]
        assert faults["fault"].tolist() == ["broken picture"]

    def test_a_folder_without_such_names_says_how_they_look(self, notebook, tmp_path):
        picture(tmp_path / "face.jpg")
        with pytest.raises(ValueError, match="<age>_<gender>"):
            notebook.list_utkface(tmp_path, pd.Series(dtype=str))

    def test_of_an_oblong_picture_the_middle_is_taken_if_asked(
        self, notebook, tmp_path
    ):
        values = np.zeros((20, 60, 3), "uint8")
        values[:, 20:40] = 200
        (tmp_path / "val").mkdir()
        PIL.Image.fromarray(values).save(tmp_path / "val" / "1.png")
        table = pd.DataFrame({"img_name": ["1.png"], "split": ["val"]})
        table = table.assign(age=1, gender=0, ethnicity=0)
        shape = {"shape": (20, 20, 3)}
        for crop in (False, True):
            flow = notebook.make_flow(
                notebook.make_datagen(), table, tmp_path, crop=crop, **shape
            )
            assert (flow[0][0].min() > 0.5) == crop
        assert notebook.is_oblong(tmp_path / "val" / "1.png")

    @pytest.mark.parametrize(
        "names", [("Male", "Female"), ("man", "woman"), ("MEN", "Women")]
    )
    def test_class_folders_are_found_by_many_names(self, notebook, tmp_path, names):
        for code, name in enumerate(names):
            for number in range(2 + code):
                picture(tmp_path / name / f"{number}.png")
        (tmp_path / names[0] / "list.txt").write_text("x")
        assert notebook.has_class_folders(tmp_path)
        table, faults = notebook.list_class_folders(tmp_path, "foreign_test")
        assert table["gender"].value_counts().to_dict() == {1: 3, 0: 2}
        assert table["age"].isna().all()
        assert faults["fault"].tolist() == ["file that is not an image"]

    def test_an_empty_class_folder_is_named(self, notebook, tmp_path):
        picture(tmp_path / "Male" / "1.jpg")
        (tmp_path / "Female").mkdir()
        with pytest.raises(ValueError, match="female"):
            notebook.list_class_folders(tmp_path, "foreign_test")

    def test_without_colour_the_grey_pictures_are_enlarged(
        self, notebook, loaded, data_folder, tmp_path
    ):
        data = {"table": loaded[0], "folder": data_folder, "data_name": "mine"}
        found = notebook.colour_pictures(tmp_path, data, "folder")
        assert found["data_name"] == "mine-enlarged"
        assert "without colour" in found["sentence"]
        assert len(found["table"]) == len(loaded[0])

    def test_class_folders_to_learn_from_come_first(self, notebook, colour, tmp_path):
        for part in ("train", "test"):
            for name in ("male", "female"):
                picture(tmp_path / "gender" / part / name / "1.jpg")
        for name in ("man", "woman"):
            picture(tmp_path / "others" / name / "1.jpg")
        found = notebook.load_gender_data(tmp_path, colour)
        assert list(found["sets"]) == ["train", "val", "foreign_test"]
        assert found["data_name"].startswith("own-")
        assert "others" in found["sentence"]
        assert notebook.own_pictures(tmp_path, "auto")["B"] == "own"

    def test_other_pictures_of_the_same_names_are_other_data(self, notebook, tmp_path):
        found = []
        for size in (40, 50):
            for name in ("man", "woman"):
                picture(tmp_path / name / "1.jpg", size=(size, size))
            table, _ = notebook.list_class_folders(tmp_path, "foreign_test")
            found.append(notebook.digest_files(table, tmp_path))
        assert found[0] != found[1]

    def test_a_part_of_utkface_is_not_taken_for_all_of_it(
        self, notebook, utkface, monkeypatch
    ):
        folder, known = utkface
        (folder / next(path.name for path in folder.iterdir())).unlink()
        found = notebook.colour_pictures(folder.parent, {}, "auto")
        assert found["data_name"].startswith("own-") and len(found["table"]) == 39

    @pytest.mark.parametrize(("wanted", "letters"), [("auto", "BCD"), ("sample", "")])
    def test_colour_pictures_are_used_whatever_the_main_data_are(
        self, notebook, utkface, wanted, letters
    ):
        data_dir = utkface[0].parent
        assert "".join(notebook.own_pictures(data_dir, wanted)) == letters
        runs = notebook.choose_runs("full", "sample", letters)
        whole = runs["gender_baseline"] == notebook.GENDER_BASELINE
        assert whole == bool(letters) and runs["mtl"] != notebook.MAIN_RUN

    def test_d_announces_the_network_that_guesses(self, notebook, monkeypatch):
        monkeypatch.setattr(notebook, "CHAPTERS", "D")
        runs = notebook.choose_runs("full", "folder")
        assert "gender_improved" in runs and "gender_baseline" not in runs


class TestGender:
    def test_the_baseline_is_the_figure(self, notebook):
        model = notebook.make_network(notebook.GENDER_BASELINE)
        assert model.count_params() == 544_593
        table = notebook.check_baseline(model)
        assert len(table) == 8 and (table["Built so"] == "yes").all()

    def test_another_network_is_not(self, notebook, tiny):
        table = notebook.check_baseline(notebook.build_model(tiny))
        assert table["Built so"].str.startswith("NO").any()
        assert table["Built so"].iloc[-1].startswith("NO")

    def test_each_trial_changes_one_thing(self, notebook):
        together = {"optimizer", "learning_rate", "weight_decay"}
        layout = {"network", "filters", "convolutions", "shared_units", "head_units"}
        for name, former in notebook.GENDER_TRIALS.items():
            if former is None:
                continue
            before, after = notebook.GENDER_RUNS[former], notebook.GENDER_RUNS[name]
            changed = {k for k in after if after[k] != before.get(k)}
            assert (
                len(changed) == 1
                or changed == together
                or changed <= layout | {"dropout"}
            ), (name, changed)

    def test_a_trial_is_described_by_what_it_changes(self, notebook):
        runs = {
            name: {"name": name, "history": {"hyperparameters": settings}}
            for name, settings in notebook.GENDER_RUNS.items()
        }
        told = {
            name: notebook.describe_trial(runs[former], runs[name])
            for name, former in notebook.GENDER_TRIALS.items()
            if former
        }
        assert told["gender_trial2"].startswith("trial1: deeper network, filters")
        assert told["gender_trial3"] == "trial2: dropout 0.0 → 0.25"
        assert told["gender_trial6"] == "trial5: activation relu → elu"

    def test_it_learns_and_predicts_colour_pictures(self, notebook, chapter, small):
        settings = notebook.GENDER_BASELINE | small | {"network": "shared trunk"}
        settings |= {"filters": [8, 8], "convolutions": [1, 1], "epochs": 8}
        run = notebook.fit_or_load("gender_small", settings, chapter.contexts["train"])
        assert {"gender_accuracy", "val_gender_accuracy"} <= set(
            run["history"]["epochs"]
        )
        views = notebook.predict_sets(run, chapter.sets, chapter.contexts)
        assert list(views) == ["val", "test"]
        figures = notebook.evaluate(views["val"])
        assert "age_mae" not in figures and figures["gender_auc"] > 0.9
        notebook.plot_curves(run["history"])
        notebook.plot_gender(views)

    def test_features_are_computed_once(self, notebook, chapter, monkeypatch, tmp_path):
        frozen = keras.Sequential(
            [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()]
        )
        path = tmp_path / "val.npz"
        notebook.read_features(frozen, *chapter.sets["val"], path)
        with np.load(path) as file:
            assert file["values"].shape == (2, 12, 3)
            assert np.allclose(file["values"][0], file["values"][1], atol=1e-3)
        monkeypatch.setattr(notebook, "make_flow", None)
        notebook.read_features(frozen, *chapter.sets["val"], path)

    def test_other_pictures_than_the_saved_are_predicted(
        self, notebook, chapter, small
    ):
        """As a user's own foreign set is, by weights that the repository ships."""
        settings = notebook.GENDER_RUNS["gender_trial2"] | small
        context = chapter.contexts["train"]
        run = notebook.fit_or_load("gender_trial2", settings, context)
        run["trained_here"] = False
        rows = chapter.sets["test"][0]
        path = notebook.of_run(run["stem"], "_test.npz")
        first = notebook.predict_or_load(run, rows[:3], context)
        kept = path.read_bytes()
        whole = notebook.predict_or_load(run, rows, context)
        assert len(first) == 3 and len(whole) == len(rows)
        assert path.read_bytes() == kept
        columns = ["gender_probability"]
        assert np.allclose(whole[:3][columns], first[columns], atol=1e-3)

    def test_vgg16_with_random_weights_goes_the_whole_way(
        self, notebook, chapter, random_weights
    ):
        settings = notebook.GENDER_RUNS["gender_vgg16"] | {"epochs": 2, "batch_size": 8}
        made = random_weights("VGG16")
        arguments = "gender_vgg16", settings, chapter.sets, chapter.contexts, {}
        run = notebook.learn_from_features(*arguments)
        assert not list(run["stem"].parent.glob("*.features"))
        model = notebook.load_network(run)
        assert model.input_shape == (None, 100, 100, 3)
        (network,) = made
        found = model.get_layer("vgg16").get_weights()
        for mine, theirs in zip(found, network.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)  # frozen: they stay
        history = run["history"]
        assert history["parameters"] == model.count_params()
        assert history["parameters"] - history["trained"] > network.count_params()
        views = notebook.predict_sets(run, chapter.sets, chapter.contexts)
        assert views["test"]["gender_probability"].between(0, 1).all()
        notebook.plot_curves(history)
        notebook.plot_gender(views)
        figures = {name: notebook.evaluate(view) for name, view in views.items()}
        assert len(notebook.metrics_table(figures)) == 6
        assert not notebook.learn_from_features(*arguments)["trained_here"]
        assert len(made) == 1

    def test_cut_off_before_it_is_joined_it_is_joined_later(
        self, notebook, chapter, random_weights, monkeypatch
    ):
        settings = notebook.GENDER_RUNS["gender_vgg16"] | {"epochs": 1, "batch_size": 8}
        random_weights("VGG16")
        arguments = "gender_vgg16", settings, chapter.sets, chapter.contexts, {}
        with monkeypatch.context() as patch, pytest.raises(TypeError):
            patch.setattr(notebook, "load_network", None)
            notebook.learn_from_features(*arguments)
        run = notebook.learn_from_features(*arguments)
        assert notebook.load_network(run).input_shape == (None, 100, 100, 3)

    @pytest.mark.parametrize("name", ["VGG16", "ResNet50"])
    def test_missing_weights_say_what_to_do(
        self, notebook, name, offline, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(
            keras.applications,
            name,
            lambda **options: (_ for _ in ()).throw(Exception("URL fetch failure")),
        )
        with pytest.raises(RuntimeError, match=notebook.PRETRAINED_FILES[name]):
            notebook.load_pretrained(name, 100)

    @pytest.mark.parametrize("name", ["VGG16", "ResNet50"])
    def test_a_folder_without_the_weights_is_not_passed_over(
        self, notebook, name, monkeypatch, tmp_path
    ):
        monkeypatch.setattr(notebook, "IMAGENET", str(tmp_path))
        settings = {"pretrained": name}
        assert notebook.waits_for_imagenet(settings)
        with pytest.raises(RuntimeError, match=notebook.PRETRAINED_FILES[name]):
            notebook.load_pretrained(name, 100)
        (tmp_path / notebook.PRETRAINED_FILES[name]).touch()
        assert not notebook.waits_for_imagenet(settings)

    def test_a_local_file_of_weights_is_taken(self, notebook, monkeypatch, tmp_path):
        network = keras.applications.VGG16(
            include_top=False, weights=None, input_shape=(32, 32, 3)
        )
        path = tmp_path / notebook.PRETRAINED_FILES["VGG16"]
        network.save(path)  # the old format, as ImageNet's weights have it
        monkeypatch.setattr(notebook, "IMAGENET", str(tmp_path))
        model = notebook.load_pretrained("VGG16", 32)
        found = model.get_layer("vgg16").get_weights()
        for mine, theirs in zip(found, network.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_levels_are_those_of_imagenet(self, notebook, monkeypatch):
        monkeypatch.setattr(
            keras.applications,
            "VGG16",
            lambda include_top, weights, input_shape: keras.Sequential(
                [keras.Input(input_shape), keras.layers.Identity()]
            ),
        )
        model = notebook.load_pretrained("VGG16", 32)
        pictures = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
        expected = keras.applications.vgg16.preprocess_input(255 * pictures.copy())
        assert np.allclose(model.predict(pictures, verbose=0), expected, atol=1e-2)


class TestBranches:
    def test_the_subset_is_seeded_and_keeps_the_sets(self, notebook, colour):
        sizes = {"train": 10, "val": 100}
        first, again = (notebook.draw_subset(colour["table"], sizes) for _ in range(2))
        assert first["train"].equals(again["train"])
        assert len(first["train"]) == 10 and len(first["val"]) == 12
        assert (first["train"]["split"] == "train").all()

    def test_model_a_is_what_the_assignment_describes(self, notebook):
        model = notebook.make_network(notebook.TWO_BRANCHES)
        kinds = [
            type(layer).__name__ for layer in model.layers if "shared" in layer.name
        ]
        assert kinds == [
            "Conv2D",
            "Conv2D",
            "MaxPooling2D",
            "BatchNormalization",
            "Conv2D",
            "MaxPooling2D",
        ]
        for task in ("age", "gender"):
            own = [layer for layer in model.layers if layer.name.startswith(f"{task}_")]
            names = [type(layer).__name__ for layer in own]
            assert names[:8] == [
                "Conv2D",
                "MaxPooling2D",
                "BatchNormalization",
                "Conv2D",
                "MaxPooling2D",
                "BatchNormalization",
                "Conv2D",
                "Flatten",
            ]
            assert names.count("Dense") >= 2 and names.count("Dropout") >= 2
        run = notebook.TWO_BRANCHES
        assert run["loss_weights"] == {"age": 0.1, "gender": 1.0}
        assert run["losses"]["age"] == "mse" and run["batch_size"] == 64
        assert model.input_shape == (None, 128, 128, 3)

    def test_it_trains_and_is_kept_as_h5(self, notebook, chapter, small, tmp_path):
        settings = (
            notebook.TWO_BRANCHES | small | {"filters": [4] * 6, "head_units": [8, 8]}
        )
        run = notebook.fit_or_load("age_gender_A", settings, chapter.contexts["train"])
        assert "age_mae" in run["history"]["epochs"]
        model = notebook.load_network(run)
        notebook.save_h5(model, tmp_path / "age_gender_A.h5")
        again = keras.models.load_model(tmp_path / "age_gender_A.h5", compile=False)
        pictures = np.random.default_rng(0).random((3, 32, 32, 3))
        ours, theirs = (m.predict(pictures, verbose=0) for m in (model, again))
        assert np.allclose(ours["age"], theirs["age"], atol=1e-4)

    def test_model_b_goes_the_whole_way_with_random_weights(
        self, notebook, chapter, random_weights, small, tmp_path
    ):
        settings = notebook.BRANCH_RUNS["age_gender_B"] | small | {"epochs": 1}
        random_weights("ResNet50")
        run = notebook.fit_or_load("age_gender_B", settings, chapter.contexts["train"])
        model = notebook.load_network(run)
        assert set(model.output_names) == {"age", "gender"}
        assert model.count_params() > 23_000_000
        assert "resnet50" in " ".join(notebook.layer_table(model)["Layer"])
        notebook.save_h5(model, tmp_path / "age_gender_B.h5")
        notebook.plot_models({"age_gender_B": run["history"]})
        views = notebook.predict_sets(run, chapter.sets, chapter.contexts)
        assert np.isfinite(views["val"]["age_predicted"]).all()


class TestSubclassed:
    @pytest.fixture
    def settings(self, notebook, small):
        return notebook.AGE_SUBCLASSED | small | {"filters": [8, 8], "shared_units": 8}

    def test_it_is_a_class_and_has_a_loop_of_its_own(self, notebook, settings):
        model = notebook.make_network(settings)
        assert isinstance(model, keras.Model) and type(model) is notebook.AgeEstimator

    @pytest.mark.parametrize("answer", ["relu", "linear", "classes"])
    @pytest.mark.parametrize("informed", [False, True])
    def test_every_variant_trains_resumes_and_predicts(
        self, notebook, chapter, settings, answer, informed
    ):
        settings = settings | {"answer": answer, "informed": informed}
        run = notebook.fit_or_load(f"age_{answer}", settings, chapter.contexts["train"])
        epochs = run["history"]["epochs"]
        assert {"loss", "val_loss", "age_mae", "val_age_mae"} <= set(epochs)
        assert len(epochs["loss"]) == 2
        view = notebook.predict_or_load(
            run, chapter.sets["test"][0], chapter.contexts["test"]
        )
        assert np.isfinite(notebook.evaluate(view)["age_mae"])

    def test_exported_it_answers_the_same(self, notebook, settings):
        model = notebook.make_network(settings)
        pictures = np.random.default_rng(0).random((3, 32, 32, 3)).astype("float32")
        ours = model(pictures)["age"]
        theirs = model.as_functional().predict(pictures, verbose=0)["age"]
        assert np.allclose(ours, theirs, atol=1e-3)

    def test_the_loop_learns(self, notebook, chapter, settings):
        settings = settings | {"epochs": 12, "learning_rate": 5e-3}
        run = notebook.fit_or_load("age_learns", settings, chapter.contexts["train"])
        losses = run["history"]["epochs"]["loss"]
        assert losses[-1] < losses[0]

    def test_it_goes_on_where_it_was_cut_off(
        self, notebook, chapter, settings, monkeypatch
    ):
        settings = settings | {"epochs": 4}
        original = notebook.Progress.on_epoch_end

        def cut_off(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt
            original(self, epoch, logs)

        with monkeypatch.context() as patch:
            patch.setattr(notebook.Progress, "on_epoch_end", cut_off)
            with pytest.raises(KeyboardInterrupt):
                notebook.fit_or_load("age_cut", settings, chapter.contexts["train"])
        seen = []
        monkeypatch.setattr(
            notebook.Progress,
            "on_epoch_end",
            lambda self, epoch, logs=None: (
                seen.append(epoch),
                original(self, epoch, logs),
            ),
        )
        run = notebook.fit_or_load("age_cut", settings, chapter.contexts["train"])
        assert seen == [2, 3]
        assert len(run["history"]["epochs"]["loss"]) == 4

    def test_answers_are_drawn_side_by_side(self, notebook):
        ages = pd.DataFrame({"age": [1.0, 30.0], "age_predicted": [-3.0, 40.0]})
        figure = notebook.plot_answers({"linear": ages, "relu": ages.clip(lower=0)})
        titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
        assert titles == ["linear", "relu"]

    def test_sizes_are_those_of_the_layers(self, notebook, settings):
        model = notebook.make_network(settings)
        table = notebook.size_table(model)
        assert table["Size"].iloc[0] == "32 × 32 × 3"
        assert table["Size"].iloc[-1] == "1"
        total = table["Parameters"].str.replace(",", "").astype(int).sum()
        assert total == model.count_params()

    def test_told_a_guess_it_keeps_the_true_labels(self, notebook, chapter, settings):
        settings = settings | {"informed": True}
        run = notebook.fit_or_load("age_informed", settings, chapter.contexts["train"])
        guesser = notebook.GENDER_RUNS["gender_trial2"] | {
            key: settings[key] for key in ("shape", "epochs", "share", "batch_size")
        }
        guesser = notebook.fit_or_load(
            "gender_trial2", guesser, chapter.contexts["train"]
        )
        table, context = chapter.sets["test"][0], chapter.contexts["test"]
        true = notebook.predict_or_load(run, table, context)
        found = notebook.predict_informed(run, table, guesser, context)
        assert (found["gender"] == table["gender"]).all()
        assert not np.allclose(found["age_predicted"], true["age_predicted"])
        files = list(run["stem"].parent.glob("*_test_guessed-*.npz"))
        other = guesser | {"history": guesser["history"] | {"date": "another"}}
        notebook.predict_informed(run, table, other, context)
        assert len(files) == 1
        assert len(list(run["stem"].parent.glob("*_test_guessed-*.npz"))) == 2
