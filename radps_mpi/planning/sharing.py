"""How blocks are spread over ranks, as ``radps_mpi.decomposition`` does it, for blocks that all cost the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

from radps_mpi.decomposition import WORTH_MOVING


@dataclass(frozen=True, slots=True)
class Sharing:
    """``blocks`` (at least 1) on ``ranks``, of which a node has ``on_a_node``; a block has ``groups`` of rows to share."""

    blocks: int
    ranks: int
    on_a_node: int
    groups: int

    @property
    def rounds(self) -> int:
        """Blocks of the rank with the most."""
        return -(-self.blocks // self.ranks)

    @property
    def team(self) -> int:
        """Ranks that share a block: more than one only where ranks abound."""
        return max(1, min(self.ranks // self.blocks, self.groups))

    @property
    def nodes_of_a_team(self) -> int:
        """Nodes that a team is on."""
        return -(-self.team // self.on_a_node)

    @property
    def slowest(self) -> float:
        """When the last team is done, in the time that a block takes one rank: by which the program compares assignments."""
        return self.rounds / self.team

    @property
    def share_of_rows(self) -> float:
        """Of a block's rows, those of the rank with the most of its team."""
        return -(-self.groups // self.team) / self.groups

    @property
    def steps(self) -> int:
        """Messages one after the other in which a team's sums come together, or an array reaches all of it."""
        return math.ceil(math.log2(self.team))

    @property
    def busy_on_a_node(self) -> int:
        """Ranks at work on the node with the most: teams begin at even distances, and those beyond the row groups idle."""
        if self.blocks >= self.ranks:
            return self.on_a_node
        distance = self.ranks // self.blocks
        return min(self.on_a_node, min(self.blocks, -(-self.on_a_node // distance)) * self.team)

    @property
    def is_uneven(self) -> bool:
        """Whether more than a tenth of the ranks' time is lost in a last round that isn't full."""
        return self.blocks >= self.ranks and self.rounds * self.ranks > 1.1 * self.blocks

    @property
    def leaves_ranks_idle(self) -> bool:
        """Whether more than a tenth of the ranks have no part in any block."""
        return self.blocks * self.team < 0.9 * self.ranks

    def moves_to(self, fewer: Sharing) -> bool:
        """Whether the blocks that are left, ``fewer`` side by side, get other owners, to whom cached visibilities of these are
        of no use: where the present ones, who have them in runs, would take clearly longer."""
        as_they_are = min(fewer.blocks, self.rounds) / self.team
        return fewer.slowest < WORTH_MOVING * as_they_are
