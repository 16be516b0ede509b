"""Image messages as OpenCV arrays and back, with the names and arguments of vision_opencv's cv_bridge."""

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image


class CvBridgeError(TypeError):
    """An image that cannot be converted as asked."""


COLOURS = {  # encoding → (type, channels, what the channels are)
    "mono8": (np.uint8, 1, "gray"), "mono16": (np.uint16, 1, "gray"),
    "bgr8": (np.uint8, 3, "bgr"), "rgb8": (np.uint8, 3, "rgb"),
    "bgra8": (np.uint8, 4, "bgra"), "rgba8": (np.uint8, 4, "rgba"),
    "bgr16": (np.uint16, 3, "bgr"), "rgb16": (np.uint16, 3, "rgb"),
    "bgra16": (np.uint16, 4, "bgra"), "rgba16": (np.uint16, 4, "rgba"),
    "yuv422": (np.uint8, 2, "uyvy"), "uyvy": (np.uint8, 2, "uyvy"),
    "yuv422_yuy2": (np.uint8, 2, "yuyv"), "yuyv": (np.uint8, 2, "yuyv"),
}  # fmt: skip
for _bits, _type in ((8, np.uint8), (16, np.uint16)):
    for _pattern in ("rggb", "bggr", "gbrg", "grbg"):
        COLOURS[f"bayer_{_pattern}{_bits}"] = (_type, 1, _pattern)

# OpenCV names a Bayer pattern by its second row's second and third pixel: its BG is everybody's RGGB.
TO_BGR = {
    "gray": cv2.COLOR_GRAY2BGR, "rgb": cv2.COLOR_RGB2BGR,
    "bgra": cv2.COLOR_BGRA2BGR, "rgba": cv2.COLOR_RGBA2BGR,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY, "yuyv": cv2.COLOR_YUV2BGR_YUY2,
    "rggb": cv2.COLOR_BayerBG2BGR, "bggr": cv2.COLOR_BayerRG2BGR,
    "gbrg": cv2.COLOR_BayerGR2BGR, "grbg": cv2.COLOR_BayerGB2BGR,
}  # fmt: skip
FROM_BGR = {
    "gray": cv2.COLOR_BGR2GRAY, "rgb": cv2.COLOR_BGR2RGB,
    "bgra": cv2.COLOR_BGR2BGRA, "rgba": cv2.COLOR_BGR2RGBA,
}  # fmt: skip
FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
DEPTHS = {
    "8U": "uint8",
    "8S": "int8",
    "16U": "uint16",
    "16S": "int16",
    "32S": "int32",
    "32F": "float32",
    "64F": "float64",
}


def _layout(encoding):
    """dtype and number of channels of an encoding's pixels."""
    if encoding in COLOURS:
        kind, channels, _ = COLOURS[encoding]
        return np.dtype(kind), channels
    depth, _, channels = encoding.partition("C")
    if depth in DEPTHS and (channels or "1").isdigit():
        return np.dtype(DEPTHS[depth]), int(channels or 1)
    raise CvBridgeError(f"unknown image encoding '{encoding}'")


def _convert(image, source, target):
    """An image of one colour encoding in another; 8 and 16 bits are full scale each."""
    if target == "passthrough" or source == target:
        return image
    if source not in COLOURS or target not in COLOURS:
        if _layout(source) == _layout(target):  # 8UC3 is any three bytes: taken as what is asked for
            return image
        raise CvBridgeError(f"cannot convert an image of encoding '{source}' to '{target}'")
    _, _, colours = COLOURS[source]
    kind, _, wanted = COLOURS[target]
    if colours != wanted:
        if wanted != "bgr" and wanted not in FROM_BGR:
            raise CvBridgeError(f"cannot convert an image of encoding '{source}' to '{target}'")
        image = image if colours == "bgr" else cv2.cvtColor(image, TO_BGR[colours])
        image = image if wanted == "bgr" else cv2.cvtColor(image, FROM_BGR[wanted])
    if image.dtype != kind:
        scale = FULL_SCALE[np.dtype(kind)] / FULL_SCALE[image.dtype]
        image = np.round(image * scale).astype(kind)
    return image


class CvBridge:
    """sensor_msgs/Image and CompressedImage ↔ (height, width[, channels]) arrays."""

    def imgmsg_to_cv2(self, img_msg, desired_encoding="passthrough"):
        kind, channels = _layout(img_msg.encoding)
        row = img_msg.width * channels * kind.itemsize
        step = img_msg.step or row
        if step < row or len(img_msg.data) < step * img_msg.height:
            raise CvBridgeError(
                f"an image of {img_msg.width}x{img_msg.height} {img_msg.encoding} has {row} bytes a row; "
                f"step is {img_msg.step} and data holds {len(img_msg.data)} bytes"
            )
        rows = np.frombuffer(img_msg.data, np.uint8, step * img_msg.height).reshape(img_msg.height, step)
        pixels = np.ascontiguousarray(rows[:, :row]).view(kind.newbyteorder(">" if img_msg.is_bigendian else "<"))
        image = pixels.astype(kind, copy=False).reshape(img_msg.height, img_msg.width, channels)
        image = image[:, :, 0] if channels == 1 else image
        return _convert(image, img_msg.encoding, desired_encoding)

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg, desired_encoding="passthrough"):
        image = cv2.imdecode(np.frombuffer(cmprs_img_msg.data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:
            raise CvBridgeError(f"{len(cmprs_img_msg.data)} bytes of '{cmprs_img_msg.format}' are not an image")
        decoded = ("mono" if image.ndim == 2 else "bgr") + str(image.dtype.itemsize * 8)
        return _convert(image, decoded, desired_encoding)

    def cv2_to_imgmsg(self, cvim, encoding="passthrough", header=None):
        if not isinstance(cvim, np.ndarray):
            raise TypeError(f"an image is a numpy array, not a {type(cvim).__name__}")
        channels = 1 if cvim.ndim == 2 else cvim.shape[2]
        if encoding == "passthrough":
            depth = {np.dtype(name): code for code, name in DEPTHS.items()}[cvim.dtype]
            encoding = f"{depth}C{channels}"
        elif _layout(encoding) != (cvim.dtype, channels):
            raise CvBridgeError(f"encoding '{encoding}' does not fit an array {cvim.shape} of {cvim.dtype}")
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        message.is_bigendian = int(cvim.dtype.byteorder == ">")
        message.step = cvim.shape[1] * channels * cvim.itemsize
        message.data.frombytes(np.ascontiguousarray(cvim).tobytes())
        if header is not None:
            message.header = header
        return message

    def cv2_to_compressed_imgmsg(self, cvim, dst_format="jpg"):
        ok, data = cv2.imencode(f".{dst_format}", cvim)
        if not ok:
            raise CvBridgeError(f"cannot encode an array {cvim.shape} of {cvim.dtype} as '{dst_format}'")
        message = CompressedImage(format={"jpg": "jpeg"}.get(dst_format, dst_format))
        message.data.frombytes(data.tobytes())
        return message
