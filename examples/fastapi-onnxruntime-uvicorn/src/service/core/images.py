"""Pixels of images that clients send, decoded with Pillow."""

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from service.core.errors import Refused
from service.ops.process import CannotStart

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP")
MAX_PIXELS: Final = 50_000_000

_DEEP_MODES: Final = ("I", "F")
"""Modes of Pillow with more than eight bits a sample begin so. It would cut them off."""
_REDUCING_GAP: Final = 2
"""How much larger than wanted a JPEG is decoded, as in Pillow's `Image.thumbnail`: one cannot see a
difference to the whole image, resized."""

_DRAFTABLE: Final = ("JPEG", "MPO")
_ORIENTATION: Final = 0x0112
"""The EXIF tag that says how to turn an image."""
_FIRST_ROTATED: Final = 5
"""Orientations from this on have width and height swapped."""


def pillow() -> Any:
    """Return Pillow's module `PIL`, with what decodes images.

    Raises:
        CannotStart: it is not installed.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ModuleNotFoundError:
        raise CannotStart(
            "predict.py takes images, and Pillow is not installed: uv add pillow"
        ) from None
    return PIL


def load(
    content: bytes,
    field: str,
    *,
    mode: str | None,
    formats: tuple[str, ...],
    max_pixels: int,
    at_least: tuple[int, int] | None = None,
) -> "Image":
    """Decode an image; see `service.core.uploads.ImageFile.open`. ``field``: the one it is in.

    Raises:
        Refused: it is not an image of these formats, is damaged, or has too many pixels.
    """
    pil = pillow()
    too_large = Refused(f"has more than {max_pixels} pixels", field=field)
    try:
        image: Image = pil.Image.open(io.BytesIO(content), formats=formats)
        if image.width * image.height > max_pixels:
            raise too_large
        if at_least is not None and image.format in _DRAFTABLE:
            rotated = image.getexif().get(_ORIENTATION, 1) >= _FIRST_ROTATED
            image.draft(None, at_least[::-1] if rotated else at_least)
        image.load()
        image = pil.ImageOps.exif_transpose(image)
    except (Refused, MemoryError):
        raise
    except (pil.Image.DecompressionBombError, pil.Image.DecompressionBombWarning):
        raise too_large from None
    except pil.UnidentifiedImageError:
        raise Refused(f"is not an image in {_listed(formats)}", field=field) from None
    except Exception:  # what decoders raise is as diverse as what can be wrong
        raise Refused("is a damaged or incomplete image", field=field) from None
    if mode is None or image.mode == mode:
        return image
    if image.mode.startswith(_DEEP_MODES):
        raise Refused("has more than 8 bits per sample", field=field)
    return image.convert(mode)


def array(
    content: bytes,
    field: str,
    size: tuple[int, int] | None,
    *,
    mode: str,
    formats: tuple[str, ...],
    max_pixels: int,
) -> npt.NDArray[np.uint8]:
    """Decode an image to an array; see `service.core.uploads.ImageFile.array`.

    Raises:
        Refused: it is not an image of these formats, is damaged, or has too many pixels.
    """
    at_least = None if size is None else (size[0] * _REDUCING_GAP, size[1] * _REDUCING_GAP)
    image = load(
        content, field, mode=mode, formats=formats, max_pixels=max_pixels, at_least=at_least
    )
    if size is not None:
        image = image.resize(size, pillow().Image.Resampling.BICUBIC)
    return np.asarray(image, np.uint8)


def _listed(formats: tuple[str, ...]) -> str:
    *first, last = formats
    return f"the format {', '.join(first)} or {last}" if first else f"the format {last}"
