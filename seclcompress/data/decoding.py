"""Decodes one picture: from an image file through PIL, or from an array that NumPy saved."""

from __future__ import annotations

import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from seclcompress.data.finding import ARRAY
from seclcompress.errors import DataError, SeclcompressWarning

#: PIL's name of the pixels that a network with so many input channels takes.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: PIL's names of the formats that are read, whatever a file's ending says. Others could start programs
#: (PostScript) or are no pictures.
_FORMATS = (*("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"),)
#: Formats whose grey pictures of more than 8 bits PIL may open as 32-bit numbers.
_OF_16_BITS = ("PNG", "PPM")
_UNREAD = "An image cannot be read: "
_SKIP = "--bad-images skip leaves such images out."
#: The exceptions that PIL and NumPy raise for files that are damaged, are not images, or are far too
#: large.
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ORIENTATION = 0x0112
#: What turns a picture upright, by EXIF's orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HIGHEST = 255
#: So far outside of 0 to 1 are values that noise or resizing has moved; they are clipped.
_OVERSHOOT = 0.1


def decode(path: str, channels: int = 3) -> Tensor:
    """Reads one picture.

    A picture is turned as its EXIF data say, and the first one is taken of several in one file. Pictures
    of 16 bits keep their upper 8; values from 0 to 1 become values from 0 to 255. What is transparent
    shows the colour that the file has there, as in torchvision's folders.

    Args:
        path: The file. An array (`.npy`) has the shape (H, W), (H, W, channels) or (channels, H, W), and
            8 or 16 bits, or floating-point values, which are taken as they are.
        channels: 1 for grey, 3 for red, green and blue, 4 for these and alpha; another number is
            possible for arrays only.

    Returns:
        Shape (channels, H, W): uint8, or float32 for an array of floating-point values.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with _opened(path) as file:
            if path.lower().endswith(ARRAY):
                _checked_shape(file)
                return _from_array(np.load(file, allow_pickle=False), channels)
            with Image.open(file, formats=_formats()) as image:
                return _from_image(image, channels)
    except UnidentifiedImageError as error:  # whose message names a file object
        raise DataError(
            f"{_UNREAD}{path}: it is empty, damaged or no image of a known format. {_SKIP}"
        ) from error
    except _UNREADABLE as error:
        words = str(error) or type(error).__name__
        words = words if str(path) in words else f"{path}: {words}"
        raise DataError(f"{_UNREAD}{words}. {_SKIP}") from error


class Unreadable:
    """Images that were left out because they cannot be read, each once however often it is met.

    The first one is a warning at once; all of them are a summary at the end.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}

    @property
    def reasons(self) -> list[str]:
        """Each image's path and why it cannot be read, in the order in which they were met."""
        return list(self._reasons)

    def add(self, words: str) -> None:
        """Notes an image.

        Args:
            words: The message of the error.
        """
        reason = words.removeprefix(_UNREAD).removesuffix(_SKIP).strip().removesuffix(".")
        if not self._reasons:
            warnings.warn(
                f"Left out. {_UNREAD}{reason}. What else is left out is said at the end.",
                SeclcompressWarning,
                stacklevel=2,
            )
        self._reasons[reason] = None

    def summary(self, data: str, most: int = 3) -> str | None:
        """One sentence on how many images were left out, and on the first of them; None if none were.

        Args:
            data: The name of the data set.
            most: How many are named.
        """
        if not self._reasons:
            return None
        count = len(self._reasons)
        some = "; ".join(self.reasons[:most])
        more = f"; and {count - most:,} more" if count > most else ""
        images = "1 image" if count == 1 else f"{count:,} images"
        return f"{images} of {data} left out (--bad-images skip): {some}{more}."


def size_of(path: str) -> tuple[int, int] | None:
    """The width and height of a picture, from its file's header and turned as its EXIF data say.

    Of an array with three dimensions, the shorter one of the first and the last is the channels'.

    Returns:
        None if it cannot be read; decoding will report it.
    """
    try:
        if path.lower().endswith(ARRAY):
            with _opened(path) as file:
                shape = _checked_shape(file)
            if len(shape) == 3:
                shape = shape[1:] if shape[0] < shape[2] else shape[:2]
            return (shape[1], shape[0]) if len(shape) == 2 else None
        with _opened(path) as file, Image.open(file, formats=_formats()) as image:
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except _UNREADABLE:
        return None


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a regular file. Anything else (a pipe, a device) could make a reader wait for ever."""
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file but a folder, pipe, device or socket")
        yield file


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation of an image that is not decoded yet, 1 to 8; 1 (upright) if there is none.

    PIL itself turns TIFF images. Damaged EXIF data are no reason to refuse a picture.
    """
    if image.format == "TIFF" or "exif" not in image.info:
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1
    return found if found in _UPRIGHT else 1


def _from_image(image: Image.Image, channels: int) -> Tensor:
    mode = MODES.get(channels)
    if mode is None:
        raise ValueError(
            f"the network takes {channels} channels, and an image file has 1, 3 or 4; save the picture "
            f"as an array of that many channels ({ARRAY})"
        )
    kind, orientation = image.format, _orientation(image)
    eight_bits = in_eight_bits(image, kind)
    if orientation != 1:
        eight_bits = eight_bits.transpose(_UPRIGHT[orientation])
    if eight_bits.mode == "P" and "transparency" in eight_bits.info:
        eight_bits = eight_bits.convert("RGBA")  # the same colours; from P itself Pillow warns
    pixels = np.array(eight_bits.convert(mode))
    return _channels_first(pixels if pixels.ndim == 3 else pixels[:, :, None])


def in_eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Scales a grey image of more than 8 bits to 8; PIL's own conversion would clip it.

    Args:
        image: The image.
        kind: PIL's name of the file's format.

    Raises:
        ValueError: If the range of the values is not known.
    """
    if image.mode == "F":
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also if one is not a number
            raise ValueError(
                f"its floating-point values lie between {low:g} and {high:g}, and only values from 0 to "
                f"1 have a known range; scale them, or save 8 or 16 bits, or an array ({ARRAY})"
            )
        return Image.fromarray(np.rint(values.clip(0, 1) * _HIGHEST).astype(np.uint8))
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in _OF_16_BITS):
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(grey, 0, 65535) >> 8).astype(np.uint8))
    if image.mode == "I":
        least, most = image.getextrema()
        raise ValueError(
            f"its values are whole numbers of 32 bits (here from {least} to {most}), whose range is not "
            f"known; save 8 or 16 bits, or an array of floating-point values ({ARRAY})"
        )
    return image


def _checked_shape(file: IO[bytes]) -> tuple[int, ...]:
    """Reads the shape of an array, and checks it before memory is asked for.

    The file may come from a stranger. It is back at its beginning afterwards.

    Raises:
        ValueError: If the file is shorter than its array, or the picture is too large for PIL as well.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"its version {version} is not known")
    needed, there = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
    if needed > there:
        raise ValueError(f"its array of shape {shape} takes {needed:,} bytes; it has {there:,}")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)  # PIL's own
    if math.prod(shape) > limit * max(MODES):
        raise ValueError(f"its array of shape {shape} is larger than the limit for a picture")
    file.seek(0)
    return tuple(shape)


def _from_array(array: np.ndarray, channels: int) -> Tensor:
    if not isinstance(array, np.ndarray):  # an .npz file in disguise
        raise ValueError(f"it is no single array ({ARRAY})")
    shape = tuple(array.shape)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and shape[2] != channels and shape[0] == channels:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != channels or 0 in shape:
        raise ValueError(
            f"the array's shape is {shape}; the network takes (H, W, {channels}) or ({channels}, H, W)"
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused below
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("the array has values that are not finite, at least not in 32 bits")
    elif array.dtype != np.uint8:
        raise ValueError(
            f"the array's numbers are {array.dtype}; it takes uint8, uint16 or floating-point numbers"
        )
    return _channels_first(array)


def _channels_first(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
