"""What lasts between windows: the scale, the terrain, and where everybody was. Saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from crowd4d_ros.window import BodyMotion, BoolArray, CrowdMotion, FloatArray, IntArray


@dataclass(frozen=True)
class LastWindow:
    """The last window's answer, which the next one inherits where they overlap.

    stamps: (T,) nanoseconds; track_ids: (N,); valid: (N, T); motion as in BodyMotion.
    """

    stamps: IntArray
    track_ids: IntArray
    valid: BoolArray
    motion: BodyMotion

    @staticmethod
    def of(motion: CrowdMotion) -> LastWindow:
        return LastWindow(motion.stamps, motion.track_ids, motion.valid, motion.motion)


@dataclass(frozen=True)
class World:
    """One segment's world. A new segment starts from ``World()``.

    scale: α0·α, None before the first person has been seen. scale_is_stable: from then on it stays.
    sipc: (M, 3) metres, the terrain seen so far.
    """

    segment_id: int = -1
    scale: float | None = None
    scale_is_stable: bool = False
    sipc: FloatArray | None = None
    last: LastWindow | None = None

    def entering(self, segment_id: int) -> World:
        """This world, or an empty one when the window belongs to another segment."""
        return self if segment_id == self.segment_id else World(segment_id=segment_id)

    def after(self, motion: CrowdMotion, scale_is_stable: bool) -> World:
        """The world that the next window enters."""
        return replace(
            self,
            scale=motion.scale if motion.valid.any() else self.scale,
            scale_is_stable=scale_is_stable,
            sipc=motion.sipc,
            last=LastWindow.of(motion),
        )

    def save(self, path: str | Path) -> None:
        """One npz without pickles."""
        arrays: dict[str, object] = {"segment_id": self.segment_id, "scale_is_stable": self.scale_is_stable}
        if self.scale is not None:
            arrays["scale"] = self.scale
        if self.sipc is not None:
            arrays["sipc"] = self.sipc
        if self.last is not None:
            arrays.update(stamps=self.last.stamps, track_ids=self.last.track_ids, valid=self.last.valid)
            arrays.update({f.name: getattr(self.last.motion, f.name) for f in fields(BodyMotion)})
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @staticmethod
    def load(path: str | Path) -> World:
        """The world that ``save`` wrote. Raises FileNotFoundError, or ValueError for another file."""
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if "segment_id" not in arrays:
            raise ValueError(f"{path} is not a saved world")
        last = None
        if "stamps" in arrays:
            motion = BodyMotion(**{f.name: arrays[f.name] for f in fields(BodyMotion)})
            last = LastWindow(arrays["stamps"], arrays["track_ids"], arrays["valid"], motion)
        return World(
            segment_id=int(arrays["segment_id"]),
            scale=float(arrays["scale"]) if "scale" in arrays else None,
            scale_is_stable=bool(arrays["scale_is_stable"]),
            sipc=arrays.get("sipc"),
            last=last,
        )
