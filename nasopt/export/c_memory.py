"""Where the feature maps of a network lie in one scratch buffer; all sizes are in floats.

Maps take turns between the two ends of the buffer: the first, third, … at its beginning, the others at
its end. A layer's input and output never touch, so the largest two neighbours fix its size.
"""

import itertools
from dataclasses import dataclass

from nasopt.cost import BYTES_PER_VALUE, Cost
from nasopt.genome import ImageShape


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The scratch buffer of one inference.

    ``scratch`` floats suffice when the image lies elsewhere. With ``arena`` floats, which is
    :attr:`nasopt.cost.Cost.peak_bytes`, the image may lie in the buffer itself, from ``arena_input`` on;
    it is overwritten then. ``offsets`` has the place of every map: convolutions, pooling, hidden layer.
    """

    image: int
    logits: int
    scratch: int
    arena: int
    offsets: tuple[int, ...]

    @property
    def arena_input(self) -> int:
        """Where in the arena the image may lie: at the end, since the first map is at the beginning."""
        return self.arena - self.image

    @property
    def ram_bytes(self) -> int:
        """What an inference needs, with the image kept: image, scratch buffer and logits."""
        return BYTES_PER_VALUE * (self.image + self.scratch + self.logits)

    @property
    def least_ram_bytes(self) -> int:
        """What an inference needs with the image in the arena: that and the logits."""
        return BYTES_PER_VALUE * (self.arena + self.logits)


def plan_memory(cost: Cost, image: ImageShape) -> MemoryPlan:
    """The memory that inference of one image takes in the C header."""
    *maps, logits = (row.output.n_values for row in cost.layers)
    scratch = max(a + b for a, b in itertools.pairwise(maps))
    offsets = tuple(scratch - n if i % 2 else 0 for i, n in enumerate(maps))
    arena = cost.peak_bytes // BYTES_PER_VALUE
    return MemoryPlan(image.n_values, logits, scratch, arena, offsets)
