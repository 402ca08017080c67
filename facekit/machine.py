"""What computes here, which commit, how long: so that times can be compared."""

import os
import pathlib
import platform
import re
import subprocess

import keras
import tensorflow as tf

from facekit.labels import ROOT


def duration(seconds: float) -> str:
    """A duration for people, such as ``"40 s"``, ``"4.1 min"`` or ``"2.3 h"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def describe() -> dict[str, str]:
    """``hardware``, ``precision`` (Keras' policy for training) and ``versions``.

    Precision is bfloat16 where that is fast: AVX512_BF16, AMX, a GPU of capability 8.
    """
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    told = cpuinfo.read_text() if cpuinfo.exists() else ""
    if gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        fast = details.get("compute_capability", (0, 0)) >= (8, 0)
        hardware = f"{len(gpus)} GPU"
    else:
        fast = not {"avx512_bf16", "amx_bf16"}.isdisjoint(told.split())
        named = re.search(r"model name\s*: (.+)", told)
        processor = named[1] if named else platform.processor() or platform.machine()
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)
        hardware = f"{len(usable)} core{'s' * (len(usable) > 1)}, {processor}"
    return {
        "hardware": hardware,
        "precision": "mixed_bfloat16" if fast else "float32",
        "versions": f"Python {platform.python_version()}, Keras {keras.__version__}, "
        f"TensorFlow {tf.__version__}",
    }


def remember(path: pathlib.Path, hardware: str) -> list[str]:
    """All machines that worked on something, in order; ``path`` keeps them."""
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known += [hardware] * (known[-1:] != [hardware])
    path.write_text("\n".join(known) + "\n", encoding="utf-8")
    return known


def commit() -> str:
    """The project's commit, or ``"unknown"`` where it is no git checkout."""
    if not (ROOT / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
