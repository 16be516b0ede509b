"""The truth in the shape of an answer: what a perfect reconstruction would have published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crowd4d_ros.pipeline import velocities
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import BodyMotion, CrowdMotion, IntArray


def perfect_answer(truth: Truth) -> CrowdMotion:
    """All frames of ``truth`` as one window; whoever is in the scene is there, observed where any skin is seen."""
    pelvis = truth.joints[..., 0, :]
    return CrowdMotion(
        window_id=0,
        segment_id=0,
        stamps=truth.stamps,
        frames=np.arange(truth.num_frames),
        is_new=np.ones(truth.num_frames, bool),
        intrinsics=truth.intrinsics,
        cameras=truth.cameras,
        scale=1.0,
        scale_source="truth",
        track_ids=truth.track_ids,
        observed=truth.valid & (truth.visibility > 0),
        valid=truth.valid,
        boxes=truth.boxes,
        motion=truth.motion,
        joints=truth.joints,
        support_point=truth.support_point,
        velocity=velocities(pelvis, truth.valid, (truth.stamps - truth.stamps[0]) / 1e9),
        confidence=truth.visibility,
        sipc=np.zeros((0, 3)),
        surface=truth.terrain.mesh(),
        energies={},
    )


def only(answer: CrowdMotion, people: IntArray) -> CrowdMotion:
    """``answer`` with the people in the rows ``people`` (m,) alone."""
    smpl = answer.motion
    return replace(
        answer,
        track_ids=answer.track_ids[people],
        observed=answer.observed[people],
        valid=answer.valid[people],
        boxes=answer.boxes[people],
        motion=BodyMotion(smpl.betas[people], smpl.body_pose[people], smpl.global_orient[people], smpl.transl[people]),
        joints=answer.joints[people],
        support_point=answer.support_point[people],
        velocity=answer.velocity[people],
        confidence=answer.confidence[people],
    )
