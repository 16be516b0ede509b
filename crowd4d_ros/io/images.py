"""Pixels of a ROS image message, in any encoding that cameras use, as BGR. NumPy and OpenCV only."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ByteImage = NDArray[np.uint8]

ENCODINGS: dict[str, tuple[str, int, int | None]] = {
    "bgr8": ("u1", 3, None),
    "8UC3": ("u1", 3, None),
    "rgb8": ("u1", 3, cv2.COLOR_RGB2BGR),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2BGR),
    "8UC4": ("u1", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2BGR),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2BGR),
    "8UC1": ("u1", 1, cv2.COLOR_GRAY2BGR),
    "bgr16": ("u2", 3, None),
    "16UC3": ("u2", 3, None),
    "rgb16": ("u2", 3, cv2.COLOR_RGB2BGR),
    "bgra16": ("u2", 4, cv2.COLOR_BGRA2BGR),
    "rgba16": ("u2", 4, cv2.COLOR_RGBA2BGR),
    "mono16": ("u2", 1, cv2.COLOR_GRAY2BGR),
    "16UC1": ("u2", 1, cv2.COLOR_GRAY2BGR),
    # OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by its first two.
    "bayer_rggb8": ("u1", 1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": ("u1", 1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": ("u1", 1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": ("u1", 1, cv2.COLOR_BayerGB2BGR),
    "bayer_rggb16": ("u2", 1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr16": ("u2", 1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg16": ("u2", 1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg16": ("u2", 1, cv2.COLOR_BayerGB2BGR),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
}
"""Encoding → element type, elements per pixel, OpenCV's conversion to BGR."""

COMPRESSED_CHANNELS = {1: cv2.COLOR_GRAY2BGR, 3: None, 4: cv2.COLOR_BGRA2BGR}
"""Channels of a decoded file → OpenCV's conversion to BGR."""

SENSOR_BITS = (8, 10, 12, 14, 16)
"""Depths at which cameras fill a 16-bit image; the smallest that holds the image is taken as white."""
BRIGHTEST, DARKEST = 99.9, 0.1
"""Percentiles: a few hot or dead pixels do not count."""
FLAT = 0.25
"""A 16-bit image that uses less than this part of its range (thermal cameras) is stretched to all of it."""


class ImageError(ValueError):
    """An image message that cannot be decoded; the message says why."""


def decode_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: bytes | ByteImage
) -> ByteImage:
    """(height, width, 3) uint8 BGR of a sensor_msgs/Image's fields. step: bytes a row, padding included.

    Raises ImageError for an unknown encoding or too few bytes.
    """
    if encoding not in ENCODINGS:
        raise ImageError(f"image encoding '{encoding}' is not supported; supported are {', '.join(ENCODINGS)}")
    kind, channels, conversion = ENCODINGS[encoding]
    if height <= 0 or width <= 0:
        raise ImageError(f"an image of {width}x{height} has no pixels")
    dtype = np.dtype((">" if is_bigendian else "<") + kind)
    row = width * channels * dtype.itemsize
    step = step or row
    flat = np.frombuffer(data, np.uint8)
    needed = step * (height - 1) + row
    if step < row or len(flat) < needed:
        raise ImageError(
            f"a {width}x{height} {encoding} image with {step} bytes a row needs {needed} bytes, "
            f"the message has {len(flat)}"
        )
    rows = np.lib.stride_tricks.as_strided(flat, (height, row), (step, 1), writeable=False)
    image = np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)
    image = image.astype(dtype.newbyteorder("="), copy=False)
    return _as_bgr(image, conversion)


def decode_compressed(format: str, data: bytes | ByteImage) -> ByteImage:
    """(H, W, 3) uint8 BGR of a sensor_msgs/CompressedImage's fields: JPEG, PNG and what else OpenCV reads.

    Raises ImageError.
    """
    if "compressedDepth" in format:
        raise ImageError("this topic carries depth images (compressedDepth): name a colour topic with --topic")
    flat = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(flat, cv2.IMREAD_UNCHANGED) if len(flat) else None
    except cv2.error as error:  # one that is larger than OpenCV allows
        raise ImageError(f"OpenCV refuses a compressed image ('{format}', {len(flat)} bytes): {error.err}") from None
    if image is None:
        raise ImageError(f"a compressed image ('{format}', {len(flat)} bytes) cannot be decoded")
    return _as_bgr(image, COMPRESSED_CHANNELS[1 if image.ndim == 2 else image.shape[2]])


def decode_message(message: Any) -> ByteImage:
    """(H, W, 3) uint8 BGR of a sensor_msgs/Image or CompressedImage of either library. Raises ImageError.

    The graph and the bag reader both decode with this, so that a replay sees the same pixels.
    """
    if hasattr(message, "format"):
        return decode_compressed(message.format, message.data)
    return decode_image(
        message.encoding, message.height, message.width, message.step, bool(message.is_bigendian), message.data
    )


def _as_bgr(image: NDArray[Any], conversion: int | None) -> ByteImage:
    """Pixels of 8 or 16 bits as BGR of 8. conversion: OpenCV's, None where they are BGR. Raises ImageError."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an image of {image.dtype} pixels is not supported: 8 or 16 bits a channel are")
    narrow = _to_8_bits(image) if image.dtype == np.uint16 else image
    if conversion is None:
        return narrow.copy()
    try:
        return np.asarray(cv2.cvtColor(narrow, conversion), np.uint8)
    except cv2.error as error:  # such as colours that two pixels share, in a row of an odd number of them
        height, width = image.shape[:2]
        raise ImageError(f"OpenCV cannot convert {width}x{height} pixels to BGR: {error.err}") from None


def _to_8_bits(image: NDArray[Any]) -> ByteImage:
    # Depth is a property of the camera: brightness does not flicker with what moves through the image.
    low, high = np.percentile(image, [DARKEST, BRIGHTEST])
    white = next(2.0**bits - 1 for bits in SENSOR_BITS if high < 2**bits)
    black = 0.0
    if high - low < FLAT * white:
        black, white = low, max(high, low + 1)
    return np.clip((image - black) * (255 / (white - black)), 0, 255).round().astype(np.uint8)
