"""How far an answer may be trusted: what a picture's detail says about the error."""

import numpy as np

from facekit.measure import age_intervals

RINGS = (1, 3, 5, 7, 9, 12, 15, 18, 22, 26, 36, 50)  # cycles per picture


def spectrum(pictures: np.ndarray) -> np.ndarray:
    """How much of a picture is fine, how much coarse, ``(n, rings)``.

    Logarithm of the mean power in rings of spatial frequency, from the first ring's on,
    of grey pictures ``(n, size, size)``.
    """
    size = pictures.shape[1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    centred = pictures.astype("float32")
    centred = (centred - centred.mean(axis=(1, 2), keepdims=True)) * window
    power = np.abs(np.fft.fft2(centred)) ** 2 + size**2 / 100  # a hundredth grey level
    across = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(*np.meshgrid(across, across))
    edges = [edge for edge in RINGS if edge < size / 2 + 3]
    ring = np.digitize(radius, edges)  # from 1 on; within the first edge 0
    rings = [power[:, ring == n].mean(axis=1) for n in range(1, len(edges))]
    return np.log(rings[1:]).T - np.log(rings[0])[:, None]


def detail(pictures: np.ndarray, weights: list[float]) -> np.ndarray:
    """The detail ``(n,)`` of grey pictures ``(n, size, size)``: the logarithm (base 2)
    of the pixels that a sharp picture would need across to show as much.

    ``weights``, of the spectrum and a constant, are fitted by `tools/fit_trust.py`.
    """
    return spectrum(pictures) @ weights[:-1] + weights[-1]


def band_of(details: np.ndarray, starts: list[float]) -> np.ndarray:
    """Which band of detail, counted from 0, each value lies in."""
    return np.searchsorted(starts, details, side="right").clip(1) - 1


def intervals(ages: np.ndarray, details: np.ndarray, fitted: dict) -> np.ndarray:
    """Ends ``(2, n)`` of the 90 % intervals around predicted ages ``(n,)``.

    ``fitted`` is a network's entry in ``trust.json``.
    """
    ends = [age_intervals(ages, table) for table in fitted["age_intervals"]]
    return np.choose(band_of(details, fitted["from"]), ends)
