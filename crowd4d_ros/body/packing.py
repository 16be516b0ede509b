"""Person-frames that count, side by side: (N, T, …) with its padding against (…, V) without."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """V valid person-frames of N people and T frames, in the order of person and time.

    rows: (V) index into N·T; person, frame: (V). lasting: (V − 1) 1 where the next is the same person's next frame,
    else 0. shape: (N, T).
    """

    rows: Tensor
    person: Tensor
    frame: Tensor
    lasting: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, valid: Tensor, like: Tensor) -> Packing:
        """``valid``: (N, T). ``like``: of the dtype to compute with."""
        people, frames = valid.shape
        rows = valid.flatten().nonzero()[:, 0]
        person, frame = rows // max(frames, 1), rows % max(frames, 1)
        lasting = (rows.diff() == 1) & (person.diff() == 0)
        return cls(rows, person, frame, lasting.to(like.dtype), (people, frames))

    def packed(self, values: Tensor) -> Tensor:
        """(N, T, …) → (…, V)."""
        return values.flatten(0, 1).index_select(0, self.rows).movedim(0, -1).contiguous()

    def of_people(self, values: Tensor) -> Tensor:
        """Each person's (N, …) → (…, V)."""
        return values.index_select(0, self.person).movedim(0, -1).contiguous()

    def of_frames(self, values: Tensor) -> Tensor:
        """Each frame's (T, …) → (…, V)."""
        return values.index_select(0, self.frame).movedim(0, -1).contiguous()

    def padded(self, values: Tensor, others: Tensor | None = None) -> Tensor:
        """(…, V) → (N, T, …), with zeros or ``others`` (N, T, …) where nobody is."""
        rows = values.movedim(-1, 0)
        if others is None:
            others = rows.new_zeros(*self.shape, *rows.shape[1:])
        return others.flatten(0, 1).index_copy(0, self.rows, rows).reshape(*self.shape, *rows.shape[1:])
