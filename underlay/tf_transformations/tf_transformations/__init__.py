"""Rotations, with the names and the order (x, y, z, w) of tf_transformations.

Matrices are 4x4, Euler axes static xyz.
"""

import numpy as np


def quaternion_matrix(quaternion):
    """The rotation of a quaternion, as (4, 4). A quaternion of no length is no rotation."""
    x, y, z, w = np.asarray(quaternion, float)
    squared = x * x + y * y + z * z + w * w
    matrix = np.eye(4)
    if squared < np.finfo(float).eps * 4:
        return matrix
    s = 2 / squared
    matrix[:3, :3] -= s * np.array(
        [
            [y * y + z * z, z * w - x * y, -x * z - y * w],
            [-x * y - z * w, x * x + z * z, x * w - y * z],
            [y * w - x * z, -y * z - x * w, x * x + y * y],
        ]
    )
    return matrix


def quaternion_from_matrix(matrix):
    """The quaternion of the rotation in a (3, 3) or (4, 4) matrix, w >= 0."""
    R = np.asarray(matrix, float)[:3, :3]
    # Shepperd: the component that is largest is found first, so that nothing is divided by a small number.
    squares = np.array([R[0, 0], R[1, 1], R[2, 2], np.trace(R)])
    squares = 1 + 2 * squares - np.trace(R)
    largest = int(np.argmax(squares))
    outer = np.empty((4, 4))  # 4 q qᵀ
    outer[[0, 1, 2, 3], [0, 1, 2, 3]] = squares
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        outer[i, j] = outer[j, i] = R[i, j] + R[j, i]
        outer[k, 3] = outer[3, k] = R[j, i] - R[i, j]
    q = outer[largest] / (2 * np.sqrt(squares[largest]))
    return q if q[3] >= 0 else -q


def quaternion_multiply(quaternion1, quaternion0):
    """The rotation quaternion0, then quaternion1."""
    a, b = np.asarray(quaternion1, float), np.asarray(quaternion0, float)
    return np.append(a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3]), a[3] * b[3] - a[:3] @ b[:3])


def quaternion_conjugate(quaternion):
    return np.asarray(quaternion, float) * (-1, -1, -1, 1)


def quaternion_inverse(quaternion):
    q = np.asarray(quaternion, float)
    return quaternion_conjugate(q) / (q @ q)


def quaternion_about_axis(angle, axis):
    direction = np.asarray(axis, float)[:3]
    return np.append(np.sin(angle / 2) * direction / np.linalg.norm(direction), np.cos(angle / 2))


def quaternion_slerp(quat0, quat1, fraction):
    """The shorter way from quat0 to quat1, fraction in [0, 1]."""
    a, b = (np.asarray(q, float) / np.linalg.norm(q) for q in (quat0, quat1))
    cosine = a @ b
    a, cosine = (-a, -cosine) if cosine < 0 else (a, cosine)
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-8:
        return b if fraction == 1 else a
    return (np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b) / np.sin(angle)


def rotation_matrix(angle, direction, point=None):
    matrix = quaternion_matrix(quaternion_about_axis(angle, direction))
    if point is not None:
        matrix[:3, 3] = np.asarray(point, float)[:3] - matrix[:3, :3] @ np.asarray(point, float)[:3]
    return matrix


def translation_matrix(direction):
    matrix = np.eye(4)
    matrix[:3, 3] = np.asarray(direction, float)[:3]
    return matrix


def translation_from_matrix(matrix):
    return np.array(matrix, float)[:3, 3]


def concatenate_matrices(*matrices):
    product = np.eye(4)
    for matrix in matrices:
        product = product @ np.asarray(matrix, float)
    return product


def inverse_matrix(matrix):
    return np.linalg.inv(matrix)


def _static_xyz(axes):
    if axes != "sxyz":
        raise NotImplementedError(f"Euler axes '{axes}': this stand-in for tf_transformations has 'sxyz' only")


def quaternion_from_euler(ai, aj, ak, axes="sxyz"):
    """Roll ai, pitch aj, yaw ak about the fixed axes x, y, z, in this order."""
    _static_xyz(axes)
    roll, pitch, yaw = (quaternion_about_axis(a, axis) for a, axis in zip((ai, aj, ak), np.eye(3), strict=True))
    return quaternion_multiply(yaw, quaternion_multiply(pitch, roll))


def euler_matrix(ai, aj, ak, axes="sxyz"):
    return quaternion_matrix(quaternion_from_euler(ai, aj, ak, axes))


def euler_from_matrix(matrix, axes="sxyz"):
    """(roll, pitch, yaw); looking straight up or down, where two of them are one, yaw is 0."""
    _static_xyz(axes)
    R = np.asarray(matrix, float)[:3, :3]
    cosine = np.hypot(R[0, 0], R[1, 0])
    pitch = np.arctan2(-R[2, 0], cosine)
    if cosine < np.finfo(float).eps * 4:
        return np.arctan2(-R[1, 2], R[1, 1]), pitch, 0.0
    return np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])


def euler_from_quaternion(quaternion, axes="sxyz"):
    return euler_from_matrix(quaternion_matrix(quaternion), axes)
