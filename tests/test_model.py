"""The network: what is shared, what comes out, what is saved."""

import keras
import numpy as np
import pandas as pd
import pytest

ALLOWED = {"InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dropout"}
HEADS = ("distribution", "scalar")


@pytest.fixture(params=HEADS)
def network(request, notebook, tiny):
    """Build a small network with each of the two age heads."""
    units = {"filters": [8, 8, 8, 8], "shared_units": 32, "head_units": 32}
    return notebook.build_model(tiny | units | {"age_head": request.param})


@pytest.fixture
def faces(loaded):
    return loaded[1][:64, ..., None].astype("float32") / 255


@pytest.fixture
def float32_afterwards(notebook):
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def ancestors(tensor):
    """List the layers that a tensor is computed by."""
    found, tensors = set(), [tensor]
    while tensors:
        layer, node, _ = tensors.pop()._keras_history
        if layer.name not in found:
            found.add(layer.name)
            tensors += layer._inbound_nodes[node].input_tensors
    return found


class TestSharing:
    def test_every_head_uses_the_whole_trunk(self, notebook, network):
        shared = {
            layer.name
            for layer in network.layers
            if notebook.task_of(layer) == "shared"
        }
        assert {"shared_conv1_1", "shared_conv4_1", "shared_dense"} <= shared
        for output in network.output.values():
            assert shared <= ancestors(output)

    def test_heads_share_nothing_beyond_the_trunk(self, notebook, network):
        for task in notebook.LABELS:
            owners = {
                notebook.task_of(network.get_layer(name))
                for name in ancestors(network.output[task])
            }
            assert owners == {"shared", task}

    @pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
    def test_a_tasks_loss_reaches_the_trunk_and_no_other_head(
        self, notebook, network, loaded, faces, task
    ):
        tf = notebook.tf
        target = loaded[0][task].to_numpy()[:64, None].astype("float32")
        loss = keras.losses.get(notebook.LOSSES[task])
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(target, network(faces)[task]))
        gradients = tape.gradient(value, network.trainable_variables)
        reached = {"shared": [], "other": [], task: []}
        for variable, gradient in zip(
            network.trainable_variables, gradients, strict=True
        ):
            owner = variable.path.split("/")[0].split("_")[0]
            moved = gradient is not None and float(tf.reduce_max(abs(gradient))) > 0
            reached[owner if owner in reached else "other"].append(moved)
        assert all(reached["shared"]) and all(reached[task])
        assert reached["other"] and not any(reached["other"])

    def test_only_the_assignments_layers_are_used(self, network):
        assert {type(layer).__name__ for layer in network.layers} <= ALLOWED

    def test_layers_are_told_apart_by_name(self, notebook, network):
        table = notebook.layer_table(network)
        assert set(table["Part"]) == {"shared", *notebook.LABELS}
        counts = table["Parameters"].str.replace(",", "").astype(int)
        assert counts.sum() == network.count_params()

    def test_a_network_for_one_task_has_that_head_alone(self, notebook, tiny):
        alone = notebook.build_model(tiny, tasks=("gender",))
        assert list(alone.output) == ["gender"]
        assert {notebook.task_of(layer) for layer in alone.layers} == {
            "shared",
            "gender",
        }


class TestOutputs:
    def test_names_shapes_and_ranges(self, notebook, network, faces):
        outputs = network.predict(faces, verbose=0)
        expected = {"age": 1, "gender": 1, "ethnicity": 5}
        if "age_distribution" in outputs:
            expected["age_distribution"] = 117
        assert {name: out.shape for name, out in outputs.items()} == {
            name: (64, units) for name, units in expected.items()
        }
        assert ((outputs["gender"] > 0) & (outputs["gender"] < 1)).all()
        np.testing.assert_allclose(outputs["ethnicity"].sum(axis=1), 1, rtol=1e-5)
        assert outputs["ethnicity"].min() >= 0

    def test_the_distributional_head_returns_the_expected_age(
        self, notebook, tiny, faces
    ):
        outputs = notebook.build_model(tiny).predict(faces, verbose=0)
        expected = outputs["age_distribution"] @ np.arange(117)
        np.testing.assert_allclose(outputs["age"][:, 0], expected, rtol=1e-4)
        assert outputs["age"].min() >= 0 and outputs["age"].max() <= 116

    def test_the_scalar_head_returns_years(self, notebook, tiny, faces):
        network = notebook.build_model(tiny | {"age_head": "scalar"})
        hundreds = keras.Model(network.input, network.get_layer("age_hundreds").output)
        np.testing.assert_allclose(
            network.predict(faces, verbose=0)["age"],
            100 * hundreds.predict(faces, verbose=0),
            rtol=1e-4,
        )

    def test_the_age_layer_is_fixed(self, notebook, network):
        fixed = network.get_layer("age")
        assert not fixed.trainable and not fixed.use_bias
        (kernel,) = fixed.get_weights()
        expected = np.arange(117) if len(kernel) > 1 else [100]
        assert kernel[:, 0].tolist() == list(expected)

    def test_training_leaves_the_age_layer_alone(self, notebook, trained):
        model = keras.saving.load_model(
            notebook.of_run(trained["stem"], ".keras"), compile=False
        )
        (kernel,) = model.get_layer("age").get_weights()
        assert kernel[:, 0].tolist() == list(range(117))

    def test_outputs_are_float32_under_mixed_precision(
        self, notebook, tiny, float32_afterwards
    ):
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        network = notebook.build_model(tiny)
        assert {out.dtype for out in network.output.values()} == {"float32"}
        assert network.get_layer("shared_conv1_1").compute_dtype == "bfloat16"

    def test_the_seed_decides_the_weights(self, notebook, tiny):
        kernels = [
            notebook.build_model(tiny | {"seed": seed}).get_weights()[0]
            for seed in (1, 1, 2)
        ]
        assert (kernels[0] == kernels[1]).all()
        assert (kernels[0] != kernels[2]).any()

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_dropout_acts_in_training_alone(self, notebook, tiny, faces, dropout):
        network = notebook.build_model(tiny | {"dropout": dropout})
        drawn = [network(faces, training=True)["age"].numpy() for _ in range(2)]
        assert (drawn[0] == drawn[1]).all() == (dropout == 0)
        same = [network(faces, training=False)["age"].numpy() for _ in range(2)]
        assert (same[0] == same[1]).all()


class TestSize:
    def test_the_main_network_has_less_than_three_million_parameters(self, notebook):
        assert notebook.build_model(notebook.MAIN_RUN).count_params() < 3e6

    def test_every_run_can_be_built(self, notebook):
        runs = notebook.FIVE_RUNS | notebook.STUDY_RUNS
        assert len(notebook.FIVE_RUNS) >= 5
        for hyperparameters in runs.values():
            outputs = notebook.build_model(hyperparameters).output
            assert set(notebook.LABELS) <= set(outputs)

    def test_five_runs_tune_five_hyperparameters(self, notebook):
        runs = pd.DataFrame([*notebook.FIVE_RUNS.values(), notebook.MAIN_RUN])
        tuned = [name for name in runs if runs[name].astype(str).nunique() > 1]
        assert len(tuned) >= 5


class TestCompilation:
    def test_a_loss_and_its_weight_per_head(self, notebook, network):
        notebook.compile_model(network, notebook.MAIN_RUN, steps_per_epoch=10)
        loss, weights = network._compile_loss, notebook.MAIN_RUN["loss_weights"]
        assert set(loss._user_loss) == set(network.output_names)
        assert loss._user_loss_weights == {
            head: weights[head] for head in network.output_names
        }

    def test_the_learning_rate_rises_then_falls(self, notebook, network):
        run = notebook.MAIN_RUN | {"epochs": 10, "warmup_epochs": 2}
        notebook.compile_model(network, run, steps_per_epoch=10)
        schedule = network.optimizer._learning_rate
        rates = [float(schedule(step)) for step in range(101)]
        assert np.argmax(rates) == 20
        assert rates[20] == pytest.approx(run["learning_rate"])
        assert rates[0] == pytest.approx(0) == rates[100]


class TestExport:
    @pytest.fixture(params=HEADS)
    def exported(self, request, notebook, tiny, tmp_path):
        """Save the weights of a network, export them; returns it and the path."""
        run = tiny | {"age_head": request.param}
        network = notebook.build_model(run)
        network.save_weights(tmp_path / "best.weights.h5")
        path = tmp_path / "model.keras"
        notebook.export_model(tmp_path / "best.weights.h5", run, path)
        return network, path

    def test_it_loads_safely_and_predicts_the_same(self, notebook, exported, faces):
        network, path = exported
        model = keras.saving.load_model(path, safe_mode=True)
        assert list(model.output) == list(notebook.LABELS)
        outputs, expected = (m.predict(faces, verbose=0) for m in (model, network))
        for task in notebook.LABELS:
            np.testing.assert_allclose(outputs[task], expected[task], rtol=1e-5)

    def test_it_is_float32_and_not_compiled(self, exported):
        model = keras.saving.load_model(exported[1])
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        assert not model.compiled and getattr(model, "optimizer", None) is None

    def test_weights_of_mixed_precision_are_exported_as_float32(
        self, notebook, tiny, tmp_path, faces, float32_afterwards
    ):
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        network = notebook.build_model(tiny)
        network.save_weights(tmp_path / "best.weights.h5")
        notebook.export_model(
            tmp_path / "best.weights.h5", tiny, tmp_path / "model.keras"
        )
        model = keras.saving.load_model(tmp_path / "model.keras")
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        np.testing.assert_array_equal(
            model.get_weights()[0], network.get_weights()[0].astype("float32")
        )


class TestPredictions:
    @pytest.fixture
    def saved(self, notebook, predicted, tmp_path):
        path = tmp_path / "predictions.npz"
        notebook.save_predictions(path, predicted)
        return path

    def test_rows_are_the_models_answers_in_the_tables_order(
        self, notebook, trained, parts, context, loaded
    ):
        model = keras.saving.load_model(notebook.of_run(trained["stem"], ".keras"))
        shuffled = parts["test"].sample(frac=1, random_state=0)
        table = notebook.predict_table(model, shuffled, context["folder"])
        pd.testing.assert_frame_equal(table[list(shuffled)], shuffled)
        images = loaded[1][shuffled.index, ..., None] / np.float32(255)
        outputs = model.predict(images, verbose=0)
        columns = np.column_stack([outputs[task] for task in notebook.LABELS])
        np.testing.assert_allclose(table[notebook.PREDICTED], columns, rtol=1e-4)

    def test_they_come_back_as_float16(self, notebook, predicted, saved):
        again = notebook.load_predictions(saved, predicted)
        pd.testing.assert_frame_equal(again, predicted, rtol=1e-3, atol=1e-4)
        with np.load(saved, allow_pickle=False) as file:
            assert file["values"].dtype == np.float16

    def test_the_file_holds_no_names(self, predicted, saved):
        with np.load(saved, allow_pickle=False) as file:
            assert set(file.files) == {"name_hash", "values"}
            assert file["name_hash"].dtype == np.uint64
            content = b"".join(file[name].tobytes() for name in file.files)
        for name in predicted["img_name"]:
            assert name.encode() not in content
            assert name.encode() not in saved.read_bytes()

    def test_they_are_joined_by_name(self, notebook, predicted, saved):
        some = predicted.sample(frac=0.5, random_state=0)
        labels = some[["img_name", *notebook.LABELS, "split"]]
        again = notebook.load_predictions(saved, labels)
        assert list(again.index) == list(some.index)
        pd.testing.assert_frame_equal(again[list(some)], some, rtol=1e-3, atol=1e-4)

    def test_rows_without_a_prediction_are_left_out(
        self, notebook, predicted, saved, parts
    ):
        both = pd.concat([predicted[:10], parts["val"][:5], predicted[10:12]])
        again = notebook.load_predictions(saved, both)
        assert list(again.index) == list(predicted.index[:12])

    def test_they_are_made_once(self, notebook, trained, predicted, parts, context):
        path = notebook.of_run(trained["stem"], "_test.npz")
        loaded = trained | {"trained_here": False}
        before = path.stat().st_mtime_ns
        again = notebook.predict_or_load(loaded, parts["test"], context)
        assert path.stat().st_mtime_ns == before
        pd.testing.assert_frame_equal(again, predicted)
