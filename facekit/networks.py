"""Keras parts of several notebooks: optimizer, shared trunk, pretrained network."""

import contextlib
import os
import pathlib
import socket

import keras
import numpy as np
from keras import layers

from facekit.labels import AGES

HE = "he_normal"  # He et al., ICCV 2015


class Muon(keras.optimizers.Muon):
    """Keras' Muon (Jordan et al. 2024), for the kernels of convolutions too.

    A kernel is taken as a matrix of ``(all but the last axis, filters)``. Biases, small
    kernels and the age distribution's output learn by Adam.
    """

    def _should_use_adamw(self, variable):
        if len(variable.shape) < 2 or "age_distribution" in variable.path:
            return True
        return min(np.prod(variable.shape[:-1]), variable.shape[-1]) < 32

    def _muon_update_step(self, gradient, variable, lr, m):
        shape = gradient.shape
        self.assign(m, self.momentum * m + gradient)
        step = keras.ops.reshape(gradient + self.momentum * m, (-1, shape[-1]))
        step = keras.ops.cast(step, keras.config.dtype_policy().compute_dtype)
        step = self.zeropower_via_newtonschulz5(step, self.ns_steps)
        step = self.lr_adjust(keras.ops.cast(step, variable.dtype))
        self.assign_sub(variable, lr * keras.ops.reshape(step, shape))


def warmup_cosine(learning_rate: float, warmup_steps: int, steps: int):
    """Schedule: the learning rate rises linearly, then falls along a cosine to zero."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(1, steps - warmup_steps),
    )


def without_bias_decay(optimizer):
    """Let an optimizer's weight decay (Loshchilov & Hutter 2019) leave biases alone."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def trunk(
    inputs, filters, convolutions, units, dropout, activation="relu", owner="shared"
):
    """Blocks of 3×3 convolutions and pooling, then a dense layer: ``(batch, units)``.

    ``filters`` and ``convolutions`` have a number for each block. With the main
    network's numbers these are its shared layers, name by name.
    """
    x, options = inputs, {"padding": "same", "kernel_initializer": HE}
    for block, (width, count) in enumerate(zip(filters, convolutions, strict=True), 1):
        for number in range(1, count + 1):
            name = f"{owner}_conv{block}_{number}"
            x = layers.Conv2D(width, 3, activation=activation, name=name, **options)(x)
        x = layers.MaxPooling2D(2, name=f"{owner}_pool{block}")(x)
    x = layers.Flatten(name=f"{owner}_flatten")(x)
    x = layers.Dropout(dropout, name=f"{owner}_dropout1")(x)
    x = layers.Dense(units, "relu", kernel_initializer=HE, name=f"{owner}_dense")(x)
    return layers.Dropout(dropout, name=f"{owner}_dropout2")(x)


def task_head(features, task: str) -> dict:
    """The main network's layers for one task: its outputs by name.

    The age, ``(batch, 1)`` years, is the mean of ``age_distribution``, a softmax over
    the ages 0 to 116 (Rothe et al. 2018), which a fixed layer computes.
    """
    options = {"kernel_initializer": HE, "name": f"{task}_dense"}
    y = layers.Dense(128, "relu", **options)(features)
    if task == "gender":
        return {task: layers.Dense(1, "sigmoid", dtype="float32", name=task)(y)}
    if task == "ethnicity":
        return {task: layers.Dense(5, "softmax", dtype="float32", name=task)(y)}
    how = {"activation": "softmax", "dtype": "float32", "name": "age_distribution"}
    shares = layers.Dense(len(AGES), **how)
    fixed = {"use_bias": False, "trainable": False, "dtype": "float32", "name": "age"}
    mean, shares = layers.Dense(1, **fixed), shares(y)
    outputs = {"age": mean(shares), "age_distribution": shares}
    mean.set_weights([AGES.reshape(-1, 1)])
    return outputs


def imagenet_features(
    application, weights_file: str, size: int, folder: str | pathlib.Path = ""
) -> keras.Model | None:
    """A network of ``keras.applications`` without its classifier, for [0, 1] pictures.

    ``application`` is such as ``keras.applications.VGG16``. ImageNet's weights are read
    from ``weights_file`` in ``folder``, else fetched. None where they cannot be had.
    """
    weights = str(pathlib.Path(folder) / weights_file) if folder else "imagenet"
    shape = size, size, 3
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds: no endless wait where nothing answers
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            network = application(include_top=False, weights=weights, input_shape=shape)
    except Exception:  # get_file raises a plain Exception
        return None
    finally:
        socket.setdefaulttimeout(before)
    inputs = keras.Input(shape, name="image")
    levels = layers.Conv2D(3, 1, trainable=False, name="imagenet_levels")
    x = levels(inputs)  # to blue, green, red from 0 to 255, less ImageNet's means
    turned = 255 * np.eye(3)[::-1].reshape(1, 1, 3, 3)
    levels.set_weights([turned, -np.array([103.939, 116.779, 123.68])])
    return keras.Model(inputs, network(x, training=False), name=network.name)
