"""What codes leave of Eq. 18, taken off at the end: bodies are set down on the ground, or lifted onto it.

Ours. A gait that the motion prior decodes is up to a centimetre more or less bent at a tick than that of whom it stands
for, so that feet float and sink in turn; more weight on Eq. 18 does not tell the codes better, and costs accuracy.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNKNOWN = 1e-6
"""Weight of a frame that says nothing: it moves as those around it do."""
HELD = 1e6
"""Weight of a frame that has to stay."""


def rises(
    clearance: Tensor, known: Tensor, held: Tensor, adjacent: Tensor, seconds: Tensor, slowness: float, width: float
) -> Tensor:
    """(N, T) metres that bodies are to be lifted by: the least of Σ w (s + c)² + slowness² Σ (Δs/Δt)².

    clearance: c, (N, T) metres, how far lowest vertices are above the ground, where ``known`` (N, T); bodies that are
    ``held`` (N, T) stay. adjacent: (N, T − 1) frames that follow each other, at ``seconds`` (T,). slowness: seconds in
    which a rise fades in. width: metres; w falls with the fourth power of c beyond it, where somebody jumps or the
    ground is not what it seems.
    """
    c = torch.where(known & ~held, clearance, 0.0).double()
    w = torch.where(held, HELD, known / (1 + (c / width).square()).square() + UNKNOWN)
    tie = adjacent * (slowness / seconds.diff().double()).square()
    nothing = tie.new_zeros(len(tie), 1)
    diagonal = w + torch.cat([tie, nothing], 1) + torch.cat([nothing, tie], 1)
    system = diagonal.diag_embed() - tie.diag_embed(1) - tie.diag_embed(-1)
    rise = torch.linalg.solve(system, -(torch.where(held, 0.0, w) * c)[..., None])[..., 0]
    return torch.where(held, 0.0, rise).to(clearance.dtype)
