"""What computes here, which commit, how long: so that times can be compared."""

import os
import pathlib
import platform
import subprocess

import keras
import tensorflow as tf

from facekit.labels import ROOT


def duration(seconds: float | None) -> str:
    """A duration for people, such as ``"40 s"``, ``"4.1 min"`` or ``"2.3 h"``."""
    if seconds is None:
        return "not measured"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def has_bfloat16() -> bool:
    """Whether bfloat16 is fast: AVX512_BF16, AMX, or a GPU of capability 8."""
    if gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def describe() -> dict[str, str]:
    """``hardware``, ``precision`` (Keras' policy for training) and ``versions``."""
    gpus = tf.config.list_physical_devices("GPU")
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    processor = names[0] if names else platform.processor() or platform.machine()
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)
    cores = f"{len(usable)} core{'s' * (len(usable) > 1)}"
    return {
        "hardware": f"{len(gpus)} GPU" if gpus else f"{cores}, {processor}",
        "precision": "mixed_bfloat16" if has_bfloat16() else "float32",
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
