"""Keras parts: Muon, the schedule, the trunk, pretrained networks."""

import keras
import numpy as np
import pytest

from facekit import networks

RATE = 0.01


@pytest.fixture
def policy():
    """Give a function that sets the precision, which is float32 again afterwards."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def gradients():
    """Draw two gradients of a convolution, with very unequal directions."""
    generator = np.random.default_rng(0)
    drawn = generator.normal(size=(2, 3, 3, 8, 32)) * np.geomspace(1, 0.05, 32)
    return drawn.astype("float32")


def muon():
    return networks.Muon(RATE, weight_decay=0.0, adam_weight_decay=0.0)


def steps_of(optimizer, values, gradients):
    """Give a variable that starts at `values` to an optimizer; returns each step."""
    variable = keras.Variable(values, dtype="float32")
    optimizer.build([variable])
    steps = []
    for gradient in gradients:
        before = np.array(variable)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        steps.append(before - np.array(variable))
    return steps


class TestMuon:
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_all_directions_of_a_kernel_learn_at_one_pace(
        self, policy, gradients, precision
    ):
        policy(precision)
        (step,) = steps_of(muon(), np.zeros((3, 3, 8, 32)), gradients[:1])
        before, after = (
            np.linalg.svd(kernel.reshape(72, 32), compute_uv=False)
            for kernel in (gradients[0], step)
        )
        assert before.max() > 15 * before.min() and after.max() < 2 * after.min()
        # The size that Adam's steps have: 0.2 of the rate per weight (Liu et al.)
        assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * RATE, rel=0.15)
        assert (step * gradients[0]).sum() > 0  # downhill

    def test_steps_are_those_of_keras_muon_on_the_matrix(self, gradients):
        ours = steps_of(muon(), np.ones((3, 3, 8, 32)), gradients)
        keras_own = keras.optimizers.Muon(RATE, weight_decay=None)
        theirs = steps_of(keras_own, np.ones((72, 32)), gradients.reshape(2, 72, 32))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.reshape(72, 32), other, atol=1e-6)

    def test_small_kernels_biases_and_the_ages_output_learn_by_adam(self):
        image = keras.Input((8, 8, 1))
        x = networks.trunk(image, (31, 32), (1, 1), units=32, dropout=0.0)
        ages = keras.layers.Dense(117, name="age_distribution")(x)
        gender = keras.layers.Dense(1, name="gender")(x)
        variables = keras.Model(image, [ages, gender]).trainable_variables
        before, optimizer = [np.array(variable) for variable in variables], muon()
        optimizer.build(variables)
        signs = np.random.default_rng(0).choice
        optimizer.apply([signs(np.float32([-1, 1, 2]), v.shape) for v in variables])
        # Adam's first step has the same size everywhere, Muon's has not.
        others = {
            variable.path
            for variable, values in zip(variables, before, strict=True)
            if not np.allclose(abs(values - variable), RATE, rtol=0.01)
        }
        assert others == {"shared_conv2_1/kernel", "shared_dense/kernel"}


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_weight_decay_shrinks_kernels_and_no_bias(kind, decay):
    network = keras.Sequential(
        [keras.Input((40,)), keras.layers.Dense(40), keras.layers.Dense(2)]
    )
    make = {
        "adam": lambda: keras.optimizers.AdamW(0.1, weight_decay=decay),
        "muon": lambda: networks.Muon(0.1, weight_decay=decay, adam_weight_decay=decay),
    }
    optimizer = networks.without_bias_decay(make[kind]())
    variables = network.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer.build(variables)
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in variables])
    for variable in variables:
        expected = 1 if variable.path.endswith("bias") else 1 - 0.1 * decay
        np.testing.assert_allclose(variable, expected, rtol=1e-6)


def test_the_learning_rate_rises_then_falls():
    schedule = networks.warmup_cosine(RATE, warmup_steps=20, steps=100)
    rates = [float(schedule(step)) for step in range(101)]
    assert np.argmax(rates) == 20 and rates[20] == pytest.approx(RATE)
    assert rates[0] == pytest.approx(0) == rates[100]
    assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    short = networks.warmup_cosine(RATE, warmup_steps=5, steps=5)
    assert float(short(5)) == pytest.approx(RATE)


class TestTrunk:
    def test_layers_are_those_that_were_asked_for(self):
        image = keras.Input((48, 48, 1), name="image")
        output = networks.trunk(
            image, (4, 6), (1, 2), units=8, dropout=0.3, activation="elu", owner="age"
        )
        network = keras.Model(image, output)
        assert [layer.name.removeprefix("age_") for layer in network.layers[1:]] == [
            "conv1_1",
            "pool1",
            "conv2_1",
            "conv2_2",
            "pool2",
            "flatten",
            "dropout1",
            "dense",
            "dropout2",
        ]
        assert network.get_layer("age_conv2_1").activation is keras.activations.elu
        assert network.get_layer("age_pool2").output.shape == (None, 12, 12, 6)
        assert network.get_layer("age_dropout1").rate == 0.3
        assert network.output_shape == (None, 8)

    def test_a_number_for_each_block_is_needed(self):
        with pytest.raises(ValueError, match="zip"):
            networks.trunk(keras.Input((48, 48, 1)), (4, 6), (1,), 8, 0.0)


class TestImagenet:
    @pytest.mark.parametrize("problem", ["no network", "no such file", "no weights"])
    def test_weights_that_cannot_be_had(self, tmp_path, problem):
        def unreachable(**options):
            raise Exception("URL fetch failure on https://…")  # as keras raises it

        (tmp_path / "weights.h5").write_text("no weights")
        application, name, folder = {
            "no network": (unreachable, "weights.h5", ""),
            "no such file": (keras.applications.VGG16, "gone.h5", tmp_path),
            "no weights": (keras.applications.VGG16, "weights.h5", tmp_path),
        }[problem]
        assert networks.imagenet_features(application, name, 32, folder) is None

    def test_a_local_file_of_weights_is_taken(self, tmp_path):
        def application(include_top, weights, input_shape):
            layers = [keras.Input(input_shape), keras.layers.Conv2D(4, 3)]
            network = keras.Sequential(layers, name="small")
            if weights:
                network.load_weights(weights)
            return network

        network = application(False, None, (32, 32, 3))
        network.save_weights(tmp_path / "some.weights.h5")
        model = networks.imagenet_features(application, "some.weights.h5", 32, tmp_path)
        found = model.get_layer("small").get_weights()
        for mine, theirs in zip(found, network.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_levels_are_those_of_imagenet(self):
        def nothing(include_top, weights, input_shape):
            layers = [keras.Input(input_shape), keras.layers.Identity()]
            return keras.Sequential(layers, name="nothing")

        model = networks.imagenet_features(nothing, "some.h5", 32)
        pictures = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
        expected = keras.applications.vgg16.preprocess_input(255 * pictures.copy())
        found = model.predict(pictures, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-2)
        assert model.name == "nothing"
