# %% tags=["functions"]
def build_two_branches(hyperparameters):
    """Build model A of assignment C: a short trunk, one branch for each task.

    Parameters
    ----------
    hyperparameters : dict
        ``filters``: of the trunk's three convolutions and of a branch's three;
        ``head_units``: of a branch's ``Dense`` layers; ``dropout`` after each of them;
        ``tasks``, ``size``, ``seed``.

    Returns
    -------
    keras.Model
        Input ``(batch, size, size, 3)`` in [0, 1], outputs ``age`` (years) and ``gender``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    layers, filters = keras.layers, hyperparameters["filters"]

    def convolution(x, place, name):
        options = {"padding": "same", "activation": "relu", "name": name}
        return layers.Conv2D(filters[place], 3, **options)(x)

    size = hyperparameters["size"]
    inputs = keras.Input((size, size, 3), name="image")
    x = convolution(inputs, 0, "shared_conv1")
    x = layers.MaxPooling2D(2, name="shared_pool1")(convolution(x, 1, "shared_conv2"))
    x = layers.BatchNormalization(name="shared_norm")(x)
    x = layers.MaxPooling2D(2, name="shared_pool2")(convolution(x, 2, "shared_conv3"))
    outputs = {}
    for task in hyperparameters["tasks"]:
        y = x
        for number in (1, 2):
            y = convolution(y, 2 + number, f"{task}_conv{number}")
            y = layers.MaxPooling2D(2, name=f"{task}_pool{number}")(y)
            y = layers.BatchNormalization(name=f"{task}_norm{number}")(y)
        y = layers.Flatten(name=f"{task}_flatten")(convolution(y, 5, f"{task}_conv3"))
        outputs[task] = dense_branch(y, task, hyperparameters)
    return keras.Model(inputs, outputs, name="two_branches")


def dense_branch(features, task, hyperparameters):
    """Stack the dense layers of one branch of assignment C.

    Parameters
    ----------
    features : keras.KerasTensor
        Shape ``(batch, n)``.
    task : str
        ``"age"`` or ``"gender"``.
    hyperparameters : dict
        ``head_units`` (a list, one entry per layer) and ``dropout``.

    Returns
    -------
    keras.KerasTensor
        Shape ``(batch, 1)``: years, or the probability of the label female.
    """
    for number, units in enumerate(hyperparameters["head_units"], start=1):
        name = f"{task}_dense{number}"
        features = keras.layers.Dense(units, "relu", name=name)(features)
        rate = hyperparameters["dropout"]
        features = keras.layers.Dropout(rate, name=f"{name}_dropout")(features)
    activation = "sigmoid" if task == "gender" else "linear"
    return keras.layers.Dense(1, activation, name=task, dtype="float32")(features)


def load_pretrained(name, size, weights="imagenet"):
    """Load a network of ``keras.applications`` without its classifier.

    Parameters
    ----------
    name : str
        ``"VGG16"`` or ``"ResNet50"``.
    size : int
        Side of the pictures in pixels.
    weights : str or None
        ``"imagenet"``: downloaded once into ``~/.keras/models``; a path of such a file;
        None: random weights, for tests alone.

    Returns
    -------
    keras.Model
        Input in the levels that ``preprocess_input`` gives; feature maps out.

    Raises
    ------
    RuntimeError
        If the weights cannot be had; the message says what to do.
    """
    try:
        make = getattr(keras.applications, name)
        return make(include_top=False, weights=weights, input_shape=(size, size, 3))
    except (OSError, ValueError) as why:
        raise RuntimeError(
            f"The ImageNet weights of {name} cannot be had here. With a network they "
            "are fetched once; without one, set IMAGENET to a folder that holds "
            f"{PRETRAINED_FILES[name]}."
        ) from why


PRETRAINED_FILES = {
    "VGG16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "ResNet50": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
}
