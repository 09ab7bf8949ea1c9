"""How one optimizer step is split into micro-batches under a frame budget, and dealt to ranks."""

from collections.abc import Sequence

QUADRATIC = 1 / 8192
"""Weight of attention's quadratic cost against the linear one, per frame: equal at 8192 frames (about 5 minutes)."""

Group = tuple[int, ...]


def groups(lengths: Sequence[int], max_frames: int) -> list[Group]:
    """Positions in `lengths` packed, longest first, so that songs x longest <= max_frames in every group.

    A song longer than the budget is a group of its own.
    """
    packed: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if packed and (len(packed[-1]) + 1) * lengths[packed[-1][0]] <= max_frames:
            packed[-1].append(index)
        else:
            packed.append([index])
    return [tuple(group) for group in packed]


def deal(lengths: Sequence[int], max_frames: int, ranks: int) -> list[list[Group]]:
    """The groups of each rank: equally many on every rank, costs evened out; `()` where a rank has no song left."""
    packed = groups(lengths, max_frames)

    def cost(group: Group) -> float:
        return 1.0 * sum(lengths[index] * (1 + QUADRATIC * max(lengths[i] for i in group)) for index in group)

    while len(packed) % ranks:
        largest = max(packed, key=lambda group: (len(group) > 1, cost(group)))
        if len(largest) < 2:
            packed.append(())
        else:
            packed.remove(largest)
            packed += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    share = len(packed) // ranks
    dealt: list[list[Group]] = [[] for _ in range(ranks)]
    for group in sorted(packed, key=cost, reverse=True):
        open_ranks = (rank for rank in range(ranks) if len(dealt[rank]) < share)
        dealt[min(open_ranks, key=lambda rank: sum(map(cost, dealt[rank])))].append(group)
    return dealt
