"""`kmedoids.alternate` in one launch on a GPU. Only this file imports Triton, and only `kmedoids` imports this file."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # of distances that are looked at together


@triton.jit(do_not_specialize=["clusters", "iterations"])
def one_problem(
    distances, first, medoids, assignment, costs, count, clusters, iterations, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    """Cluster the problem of this program. Columns are its tokens, all at once; rows of distances come in tiles.

    Threads share medoids, assignment and costs through memory, with a barrier after each.
    """
    problem = tl.program_id(0).to(tl.int64)
    distances += problem * count * count
    medoids += problem * clusters
    assignment += problem * count
    costs += problem * count
    token, row = tl.arange(0, BLOCK), tl.arange(0, ROWS)
    real = token < count

    chosen = tl.load(first + problem).to(tl.int32)
    from_first = tl.load(distances + chosen * count + token, mask=real, other=0.0)
    finite = tl.min((from_first < float("inf")).to(tl.int32), 0)
    nearest = tl.where(real, float("inf"), -2.0)
    is_medoid = token < 0
    for number in range(clusters):
        if number > 0:
            chosen = tl.argmax(nearest, 0)
        is_medoid = is_medoid | (token == chosen)
        line = tl.load(distances + chosen * count + token, mask=real, other=0.0)
        line = tl.where(line < float("inf"), line, 0.0)
        nearest = tl.where(token == chosen, -1.0, tl.minimum(nearest, line))  # never chosen twice

    moving, done = 1, (1 - finite) * iterations
    while moving > 0:
        cluster_of_medoid = tl.cumsum(is_medoid.to(tl.int32), 0) - 1
        tl.store(medoids + cluster_of_medoid, token, mask=is_medoid)
        tl.debug_barrier()

        least = tl.full([BLOCK], float("inf"), tl.float32)
        cluster = tl.full([BLOCK], 0, tl.int32)
        for start in range(0, clusters, ROWS):
            inside = start + row < clusters
            medoid = tl.load(medoids + start + row, mask=inside, other=0)
            tile = tl.load(distances + medoid[:, None] * count + token, mask=inside[:, None] & real, other=0.0)
            tile = tl.where(inside[:, None], tl.where(tile < float("inf"), tile, 0.0), float("inf"))
            near, place = tl.min(tile, 0, return_indices=True)
            cluster = tl.where(near < least, start + place, cluster)
            least = tl.minimum(least, near)
        cluster = tl.where(is_medoid, cluster_of_medoid, cluster)
        tl.store(assignment + token, cluster, mask=real)
        tl.debug_barrier()

        cost = tl.full([BLOCK], 0, tl.float64)
        for start in range(0, count, ROWS):
            other = start + row
            together = tl.load(assignment + other, mask=other < count, other=-1)[:, None] == cluster
            tile = tl.load(distances + other[:, None] * count + token, mask=together & real, other=0.0)
            cost += tl.sum(tl.where(tile < float("inf"), tile, 0.0).to(tl.float64), 0)
        tl.store(costs + token, cost, mask=real)
        tl.debug_barrier()

        beaten = tl.full([BLOCK], 0, tl.int32)
        for start in range(0, count, ROWS):
            other = start + row
            its_cluster = tl.load(assignment + other, mask=other < count, other=-1)
            its_cost = tl.load(costs + other, mask=other < count, other=0.0)[:, None]
            better = (its_cost < cost) | ((its_cost == cost) & (other[:, None] < token))
            beaten = tl.maximum(beaten, tl.max(((its_cluster[:, None] == cluster) & better).to(tl.int32), 0))
        moved = real & (beaten == 0)
        moving = tl.max((moved != is_medoid).to(tl.int32), 0) * (done < iterations).to(tl.int32)
        is_medoid = moved
        done += 1
        tl.debug_barrier()


def compiled_for(count: int) -> dict[str, int | bool]:
    """What the kernel is compiled for where problems have `count` tokens: its constants, and how."""
    block = max(16, triton.next_power_of_2(count))
    return {"BLOCK": block, "ROWS": ROWS, "num_warps": max(4, block // 64), "enable_fp_fusion": False}


def alternate_in_one_launch(distances: Tensor, first: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """As `kmedoids.alternate`, by one program a problem, without synchronising with the host.

    Distances [B, N, N] float32, symmetric, N up to 1,024, as a program holds N numbers of several kinds in registers;
    first [B] int64; any K. It takes 8 B N bytes beside its results. Sums are float64 (see `kmedoids.costs`).

    A distance that is not finite counts as 0. If the first medoid has such a distance to a token, no medoid moves: a
    token that is not finite stays a medoid, and the network's output shows it.
    """
    batch, count, _ = distances.shape
    medoids = torch.empty(batch, clusters, dtype=torch.int64, device=distances.device)
    assignment = torch.empty(batch, count, dtype=torch.int64, device=distances.device)
    costs = torch.empty(batch, count, dtype=torch.float64, device=distances.device)
    with torch.cuda.device_of(distances):
        given = distances.contiguous(), first, medoids, assignment, costs, count, clusters, iterations
        one_problem[(batch,)](*given, **compiled_for(count))
    return medoids, assignment
