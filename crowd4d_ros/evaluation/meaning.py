"""How an evaluation's metrics are called, shown and read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """How a value is shown. factor: what it is multiplied with; better: "up", "down", or "" for neither."""

    label: str
    unit: str
    factor: float
    better: str
    what: str


MEANING: dict[str, Meaning] = {
    "ppds": Meaning("PPDS", "%", 100.0, "up", "pairwise distances, times the share of people found"),
    "pa_ppds": Meaning("PA-PPDS", "%", 100.0, "up", "the same after a similarity"),
    "pcod": Meaning("PCOD", "%", 100.0, "up", "order in depth"),
    "mpjpe": Meaning("MPJPE", "mm", 1.0, "down", "joints relative to the pelvis"),
    "pa_mpjpe": Meaning("PA-MPJPE", "mm", 1.0, "down", "joints after a similarity"),
    "wa_mpjpe": Meaning("WA-MPJPE", "mm", 1.0, "down", "joints after a similarity over the track"),
    "w_mpjpe": Meaning("W-MPJPE", "mm", 1.0, "down", "joints after a similarity of the first two frames"),
    "accel": Meaning("ACCEL", "", 1.0, "down", "acceleration: mm/frame² (author_native), m/s² (standard)"),
    "recall": Meaning("recall r", "%", 100.0, "up", "people found"),
    "ppds_found": Meaning("found: PPDS", "%", 100.0, "up", "of the people found alone, as if no others were there"),
    "pa_ppds_found": Meaning("found: PA-PPDS", "%", 100.0, "up", "of the people found alone"),
    "pcod_found": Meaning("found: PCOD", "%", 100.0, "up", "of the people found alone"),
    "mpjpe_found": Meaning("found: MPJPE", "mm", 1.0, "down", "of the people found alone"),
    "false_positives": Meaning("false positives", "/frame", 1.0, "down", "predictions that are nobody"),
    "occluded_recall": Meaning("occluded: recall", "%", 100.0, "up", "of people less than half seen"),
    "occluded_mpjpe": Meaning("occluded: MPJPE", "mm", 1.0, "down", "of people less than half seen"),
    "occluded_pa_mpjpe": Meaning("occluded: PA-MPJPE", "mm", 1.0, "down", "of people less than half seen"),
    "hidden_share": Meaning("hidden: share", "%", 100.0, "", "of those found, less than half seen, or bridged"),
    "hidden_mpjpe": Meaning("hidden: MPJPE", "mm", 1.0, "down", "of those"),
    "hidden_root_error": Meaning("hidden: root error", "m", 1.0, "down", "of those, as root error"),
    "bridged_drift": Meaning(
        "bridged: drift", "cm", 100.0, "down", "root of those not detected, beyond its error at the gap's ends"
    ),
    "scale_error": Meaning("scale error", "%", 100.0, "", "size of the crowd's layout; + is too large"),
    "depth_error": Meaning("depth error", "%", 100.0, "", "distance from the camera; + is too far"),
    "root_error": Meaning("root error", "m", 1.0, "down", "pelvis, as seen from the camera, unaligned"),
    "world_error": Meaning("world error", "m", 1.0, "down", "pelvis in the world, unaligned"),
    "failed_people": Meaning("failed people", "%", 100.0, "down", "not found, misplaced or in a wrong pose"),
    "penetration": Meaning("penetration", "m", 1.0, "down", "lowest vertex below the true terrain, mean"),
    "floating": Meaning("floating", "m", 1.0, "down", "lowest vertex above the true terrain, mean"),
    "feet_terrain": Meaning(
        "feet: true terrain", "cm", 100.0, "down", "of the lowest vertex, median; worlds by camera"
    ),
    "feet_terrain_mean": Meaning("  mean", "cm", 100.0, "down", "the same, mean"),
    "feet_terrain_resized": Meaning(
        "feet: true terrain, size aside", "cm", 100.0, "down", "the median, where the size of all is made right"
    ),
    "feet_surface": Meaning("feet: own surface", "cm", 100.0, "down", "of the lowest vertex, median"),
    "feet_surface_mean": Meaning("  mean", "cm", 100.0, "down", "the same, mean"),
    "foot_skate": Meaning("foot skate", "m/s", 1.0, "down", "of feet that truly stand, beyond the truth's"),
    "seam_jump": Meaning("seam jump", "m", 1.0, "down", "pelvis, where a new window's answer begins"),
    "seam_jump_elsewhere": Meaning("  elsewhere", "m", 1.0, "", "the same in all other frames"),
    "idf1": Meaning("IDF1", "%", 100.0, "up", "identity over the whole sequence"),
    "mota": Meaning("MOTA", "%", 100.0, "up", "misses, false positives and switches"),
    "hota": Meaning("HOTA", "%", 100.0, "up", "detection and association"),
    "id_switches": Meaning("identity switches", "", 1.0, "down", "how often"),
}
"""Every metric of an evaluation, in the order of the table."""
