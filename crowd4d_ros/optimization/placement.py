"""What an initial motion has wrong all the time, corrected by the detected keypoints before anything is anchored.

Ours. The paper anchors people at the pixel of the initial body's feet (Eq. 7–10) and scales the scene by the distances
of the initial bodies (Eq. 2): a body that leans, or that a network's short legs have put too far away, misplaces both.
Most of these errors last: one rotation, one offset in the image and one depth for each person take them away.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import longer_legs, posed_keypoints
from crowd4d_ros.body.rotations import axis_angle_to_matrix, compose
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.camera import project
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.evidence import Evidence
from crowd4d_ros.window import NUM_COCO, CrowdWindow

logger = logging.getLogger(__name__)


def placed_by_keypoints(window: CrowdWindow, body: BodyModel, config: OptimizationConfig) -> CrowdWindow:
    """The window, its people turned, moved across the image and along their rays as their 2D keypoints say.

    Adam on Eq. 22 as Stage 1 has it, with its upright bodies. The depths of all people change by one factor, and that
    of each by another, near 1: statures are known to a few per cent only, and so is what a size says of depth. Limbs
    that point elsewhere than in the image make the best size smaller, and so everybody too far off: a kernel
    narrower than the stages' leaves them out. Shapes give way to the mean one by as much as they are uncertain.
    A window whose numbers are not finite comes back as it is, with a warning.
    """
    seen = Evidence.of(window, config, body.v_template)
    valid, K, R, t = seen.valid, seen.K, seen.R, seen.t
    focal = K.diagonal()[:2]
    with torch.no_grad():
        betas = config.placement_shape * seen.betas
        posed = body.pose(betas[:, None], seen.body_pose, seen.global_orient, seen.transl)
        pelvis, up = posed.joints[..., 0, :], posed.transforms[..., 0, :3, UP]
        points = longer_legs(posed_keypoints(body, posed), seen_legs(window, config))[..., : config.keypoints, :]
        points = points - pelvis[..., None, :]
        in_camera = (pelvis[..., None, :] * R).sum(-1) + t

    people = len(valid)
    turn, offset, depth, common = (
        torch.zeros(shape, dtype=pelvis.dtype, device=pelvis.device, requires_grad=True)
        for shape in ((people, 3), (people, 1, 2), (people, 1), ())
    )

    def moved() -> Tensor:
        across = offset * seen.size[..., None] / focal * in_camera[..., 2:]
        inside = torch.cat([in_camera[..., :2] + across, in_camera[..., 2:]], -1)
        inside = (common + depth)[..., None].exp() * inside
        return ((inside - t)[..., :, None] * R).sum(-2)

    optimizer = torch.optim.Adam([turn, offset, depth, common], lr=config.placement_learning_rate)
    for _ in range(config.placement_iterations):
        turned = axis_angle_to_matrix(turn).mT
        bodies = (points.flatten(1, 2) @ turned).reshape(points.shape)
        image = project(moved()[..., None, :] + bodies, K, R, t)
        energy = (
            config.weight_proj
            * energies.reprojection(*image, seen.pixels, seen.weight, seen.size, valid, config.placement_width)
            + config.weight_upright * energies.upright((up @ turned)[..., UP], valid)
            + config.weight_own_depth * (valid * depth.square()).sum()
        )
        optimizer.zero_grad()
        torch.autograd.backward(energy)
        optimizer.step()
    with torch.no_grad():
        orient = compose(turn[:, None].expand_as(seen.global_orient), seen.global_orient)
        transl = seen.transl + moved() - pelvis
    if not bool(torch.isfinite(torch.cat([orient, transl], -1)[valid]).all()):
        logger.warning("window %d: placement by keypoints is not finite, people stay put", window.window_id)
        return window
    shape, global_orient, transl_array = (a.cpu().numpy().astype(float) for a in (betas, orient, transl))
    return replace(window, motion=replace(window.motion, betas=shape, global_orient=global_orient, transl=transl_array))


def seen_legs(window: CrowdWindow, config: OptimizationConfig) -> float:
    """By which share thighs and shins are longer in the window's keypoints than in bodies. Ours.

    ``leg_change`` holds while keypoints that are seen, not guessed, are in doubt by ``leg_doubt`` or less, in the mean
    over everybody. A network that sees worse sees legs shorter, in proportion.
    """
    confidence = window.keypoints_confidence[window.observed][:, :NUM_COCO]
    seen = confidence[confidence > config.guessed]
    doubt = 1.0 - float(seen.mean()) if len(seen) else 0.0
    return config.leg_change * max(1.0, doubt / config.leg_doubt)
