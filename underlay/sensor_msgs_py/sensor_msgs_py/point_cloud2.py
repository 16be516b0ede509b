"""PointCloud2 messages as numpy arrays and back, with the names and arguments of sensor_msgs_py."""

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

TYPES = {
    PointField.INT8: np.dtype(np.int8), PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16), PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32), PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32), PointField.FLOAT64: np.dtype(np.float64),
}  # fmt: skip


def dtype_from_fields(fields, point_step=None):
    """The structured type of one point."""
    formats = [TYPES[f.datatype] if f.count == 1 else (TYPES[f.datatype], (f.count,)) for f in fields]
    layout = {"names": [f.name for f in fields], "formats": formats, "offsets": [f.offset for f in fields]}
    return np.dtype(layout if point_step is None else {**layout, "itemsize": point_step})


def read_points(cloud, field_names=None, skip_nans=False, uvs=None, reshape_organized_cloud=False):
    """A structured array of the points: (P,), or (height, width) if asked for and the cloud has rows."""
    points = np.ndarray(
        (cloud.height, cloud.width),
        dtype_from_fields(cloud.fields, cloud.point_step).newbyteorder(">" if cloud.is_bigendian else "<"),
        bytes(cloud.data),
        strides=(cloud.row_step, cloud.point_step),
    ).reshape(-1)
    if field_names is not None:
        missing = set(field_names) - set(points.dtype.names)
        assert not missing, f"the cloud has no field {sorted(missing)}"
        points = points[list(field_names)]
    if skip_nans:
        numbers = [points[name].reshape(len(points), -1) for name in points.dtype.names]
        points = points[~np.isnan(np.concatenate(numbers, axis=1, dtype=np.float64)).any(axis=1)]
    if uvs is not None:
        u, v = np.asarray(uvs, int).reshape(-1, 2).T
        points = points[v * cloud.width + u]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.height, cloud.width)
    return points


def read_points_numpy(cloud, field_names=None, skip_nans=False, uvs=None, reshape_organized_cloud=False):
    """The points as one plain array (P, fields); all the fields must have one type."""
    points = read_points(cloud, field_names, skip_nans, uvs, reshape_organized_cloud)
    types = {points.dtype[name].base for name in points.dtype.names}
    assert len(types) == 1, "the fields have different types: name those to read in field_names"
    columns = [
        points[name] if points[name].ndim > points.ndim else points[name][..., None] for name in points.dtype.names
    ]
    return np.concatenate(columns, axis=-1)


def create_cloud(header, fields, points, step=None, point_cloud_msg_type=PointCloud2):
    """A cloud of points: a structured array, or what makes an array (P, fields) or (H, W, fields)."""
    points = np.asarray(points)
    if points.dtype.names is None:
        # One number per field, in the order of the fields; fields of several numbers need a structured array.
        assert points.shape[-1] == len(fields), f"points have {points.shape[-1]} values, fields are {len(fields)}"
        numbers, points = points, np.zeros(points.shape[:-1], dtype_from_fields(fields, step))
        for column, entry in enumerate(fields):
            points[entry.name] = numbers[..., column]
    height, width = (1, len(points)) if points.ndim == 1 else points.shape
    cloud = point_cloud_msg_type(
        header=header, height=height, width=width, fields=fields, is_bigendian=sys.byteorder != "little",
        is_dense=False, point_step=points.itemsize, row_step=points.itemsize * width,
    )  # fmt: skip
    cloud.data.frombytes(np.ascontiguousarray(points).tobytes())
    return cloud


def create_cloud_xyz32(header, points):
    """A cloud of float32 x, y, z from (P, 3)."""
    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyz")]
    return create_cloud(header, fields, np.asarray(points, np.float32).reshape(-1, 3))
