"""Drawings of networks: hard against soft sharing, and the layers of one."""

import matplotlib.patches

from facekit.labels import LABELS
from facekit.plots import TASK_COLOURS, panels

OUTPUTS = ("years", "P(female)", "5 classes")


def sharing():
    """Draw hard against soft parameter sharing (after Ruder 2017, figures 1 and 2)."""
    figure, (hard, soft) = panels(2, 5, 3.6)
    hard.set_title("Hard sharing: the same weights")
    soft.set_title("Soft sharing: own weights, kept close by a penalty (dotted)")
    for axis in (hard, soft):
        axis.text(3.2, 5.2, "one picture", ha="center")
        axis.set(xlim=(0, 6.4), ylim=(5.3, -0.2))
    _stack(hard, 0.9, 1.9, 4.6, ["shared layer"] * 3, "shared", upwards=True)
    for place, (task, output) in enumerate(zip(LABELS, OUTPUTS, strict=True)):
        columns = (hard, 0.9 + 1.6 * place, 1), (soft, 0.3 + 2.1 * place, 4)
        for axis, x, layers in columns:
            _stack(axis, x, 0.9, 1.4, [f"{task} layer"] * layers, task, upwards=True)
            _arrow(axis, (x + 0.7, 0.9), (x + 0.7, 0.4))
            axis.text(x + 0.7, 0.3, output, ha="center")
        for row in range(3 * (place < 2)):
            ends = [(0.3 + 2.1 * place + dx, 2.2 + row) for dx in (1.4, 2.1)]
            _arrow(soft, *ends, arrowstyle="<->", linestyle=":")
    return figure


def architecture(model):
    """Draw a hard-sharing network: shared layers in grey, each task's in its colour."""
    parts = {part: [] for part in TASK_COLOURS}
    for layer in model.layers[1:]:
        owner = layer.name.partition("_")[0]
        kind = type(layer).__name__
        for size in ("kernel_size", "pool_size"):
            kind += "".join(f" {n}×{n}" for n in getattr(layer, size, ())[:1])
        if hasattr(layer, "activation"):
            kind += f", {layer.activation.__name__}" if layer.trainable else ", fixed"
        shape = " × ".join(map(str, layer.output.shape[1:]))
        parts[owner if owner in LABELS else "shared"].append(f"{kind}: {shape}")
    trunk = parts.pop("shared")
    half = (len(trunk) + 1) // 2
    figure, (axis,) = panels(1, 10, 0.4 * half + 0.7)
    _stack(axis, 0, 0, 2.7, trunk[:half], "shared")
    _stack(axis, 3.3, 0, 2.7, trunk[half:], "shared")
    _elbow(axis, (2.7, half - 0.65), (3.3, 0.35))
    top = 0.0
    for task, layers in parts.items():
        _stack(axis, 6.8, top, 3.2, [f"{task}: {text}" for text in layers], task)
        _elbow(axis, (6.0, len(trunk) - half - 0.65), (6.8, top + 0.35))
        top += len(layers) + 0.5
    axis.set(xlim=(-0.1, 10.1), ylim=(max(half, top), -0.2))
    axis.set_title("The network: grey layers are shared, coloured ones one task's own")
    return figure


def _stack(axis, x, top, width, texts, owner, upwards=False):
    """Draw layers as boxes under one another, with arrows between them."""
    axis.axis("off")
    for row, text in enumerate(texts):
        shape = "round,pad=0,rounding_size=0.06"
        patch = matplotlib.patches.FancyBboxPatch((x, top + row), width, 0.7, shape)
        patch.set(facecolor=TASK_COLOURS[owner], edgecolor="none")
        axis.add_patch(patch)
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": "white"}
        axis.text(x + width / 2, top + row + 0.35, text, **style)
        ends = [(x + width / 2, top + row + dy) for dy in (0.7, 1)]
        if row < len(texts) - 1 or upwards:
            _arrow(axis, *(reversed(ends) if upwards else ends))


def _arrow(axis, start, end, **options):
    """Draw an arrow between two points."""
    look = {"arrowstyle": "-|>", "color": "#444444", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=look | options)


def _elbow(axis, start, end):
    """Draw an arrow that turns halfway between two columns."""
    x = (start[0] + end[0]) / 2
    axis.plot([start[0], x, x], [start[1], start[1], end[1]], color="#444444", lw=1)
    _arrow(axis, (x, end[1]), end)
