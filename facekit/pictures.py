"""Every picture is read here: what is checked is what is fed and what is predicted."""

import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff")  # Keras reads them
OTHERS = (".gif", ".webp")  # ``predict.py`` reads them too
LARGEST = Image.MAX_IMAGE_PIXELS  # pixels, some 89 million
UNREADABLE = OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError


def read(path: pathlib.Path, plain=False, draft=None) -> Image.Image:
    """Read a picture as grey (L) or RGB: 8 bits, upright, transparent parts mid-grey.

    ``plain`` is for training and its check: ValueError says why Keras' generators would
    feed something else. ``draft``: a size that a JPEG may be reduced to while decoding.
    Raises one of ``UNREADABLE`` if it is broken or has more than 89 million pixels.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what is refused here
        opened = Image.open(path)
    with opened as image:
        if image.width * image.height > LARGEST:
            raise ValueError("more than 89 million pixels")
        deep = image.mode.startswith(("I", "F"))
        clear = image.has_transparency_data
        clear = clear and image.convert("RGBA").getextrema()[3][0] < 255
        turned = image.getexif().get(274, 1) != 1  # the tag Orientation
        odd = {
            "16 or 32 bits per pixel": deep,
            "turned by its camera (EXIF)": turned,
            "transparent parts": clear,
        }
        if plain and any(odd.values()):
            raise ValueError(next(why for why, is_so in odd.items() if is_so))
        if draft:
            image.draft("L", draft)
        image = ImageOps.exif_transpose(image) if turned else image
        if deep:
            levels = np.asarray(image, "float64")
            top = 65535 if levels.max() > 255 else 255
            image = Image.fromarray((levels / top * 255).clip(0, 255).astype("uint8"))
        if clear:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
            image = Image.alpha_composite(ground, image)
        grey = image.mode in ("1", "L", "LA")
        return image.convert("L" if grey else "RGB")


def name_fault(name: str) -> str:
    """Why a file cannot be a training picture, by its name; "" if it can."""
    if name != name.encode("utf-8", "replace").decode():
        return "name that is not text"
    if name.lower().endswith(OTHERS):
        return "GIF or WebP: save it as PNG or JPEG"
    return "" if name.lower().endswith(ENDINGS) else "file that is not an image"


def fault(why: Exception) -> str:
    """What is wrong with a picture that ``read`` refused, for the table of faults."""
    if isinstance(why, MemoryError):
        return "picture: too large for this machine's memory"
    return f"picture: {why}" if type(why) is ValueError else "broken picture"
