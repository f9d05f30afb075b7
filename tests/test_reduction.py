"""k-medoids++ and spectral clustering against plain Python loops, dense eigenvectors and hand-made problems."""

import math
import sys
from operator import mul

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centerclip.command import UserError
from centerclip.method import reduction
from centerclip.method.reduction.kmedoids import kmedoids, pairwise_distances, sliced_gram, slow_at_float64
from centerclip.method.reduction.pooling import pooling
from centerclip.method.reduction.sparse_sampling import sparse_sampling
from centerclip.method.reduction.spectral import (
    affinity,
    distances_by_products,
    distances_by_solver,
    nearest,
    projector,
    spectral,
)
from centerclip.method.shifts import SHIFTS, class_shifted, patches_shifted, shifted
from centerclip.method.stages import Reduction
from centerclip.method.towers.tower import Tower


def kmedoids_by_loops(points, clusters, first=None, between=math.dist):
    """k-medoids++ of one problem as the paper tells it, in plain Python: an oracle that shares no code."""
    points = [[float(value) for value in point] for point in points]
    n = len(points)
    distance = [[between(a, b) for b in points] for a in points]

    def assign(medoids):
        of_medoid = {medoid: cluster for cluster, medoid in enumerate(medoids)}
        nearest = [min(range(clusters), key=lambda c: (distance[medoids[c]][i], c)) for i in range(n)]
        return [of_medoid.get(i, nearest[i]) for i in range(n)]

    if first is None:
        first = max(range(n), key=lambda i: (math.hypot(*points[i]), -i))
    medoids = [first]
    while len(medoids) < clusters:
        rest = [i for i in range(n) if i not in medoids]
        medoids.append(max(rest, key=lambda i: (min(distance[i][m] for m in medoids), -i)))
    medoids.sort()
    while True:
        assignment = assign(medoids)
        moved = []
        for cluster in range(clusters):
            members = [i for i in range(n) if assignment[i] == cluster]
            moved.append(min(members, key=lambda i: (math.fsum(distance[i][j] for j in members), i)))
        moved.sort()
        if moved == medoids:
            return medoids, assignment
        medoids = moved


def problems():
    rng = np.random.default_rng(0)
    blobs = np.concatenate([rng.normal(m, 0.1, (n, 5)) for m, n in ((0, 30), (5, 3), (9, 2))])
    return {
        "random": rng.normal(size=(40, 8)),
        "duplicated": np.repeat(rng.integers(-3, 3, (8, 4)), 4, axis=0),
        "collinear": np.arange(24)[:, None] * np.array([[3.0, 4.0, 0.0]]),  # steps of exactly 5
        "constant": np.full((12, 3), 7.0),
        "huge": rng.normal(size=(30, 6)) * 1e15,
        "tiny": rng.normal(size=(30, 6)) * 1e-15,
        "far from the origin": rng.normal(size=(30, 6)) + 1000,
        "unbalanced": blobs,
    }


@pytest.mark.parametrize("clusters", [1, 2, 5, 12])
@pytest.mark.parametrize("name", problems())
def test_kmedoids_is_the_loops_answer(name, clusters):
    points = torch.from_numpy(problems()[name]).float()
    medoids, assignment = kmedoids(points[None], clusters)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(points.tolist(), clusters)


def test_kmedoids_of_half_precision_tokens():
    points = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).half()
    medoids, assignment = kmedoids(points[None], 5)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(points.tolist(), 5)


def test_distances_in_float32_are_right_to_2_digits_or_zero():
    """Between random tokens, their duplicates and neighbours at about 0.07, 0.007 and 0.00007 of their norms."""
    points, away = torch.randn(2, 3, 20, 64, generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([points, points, *(points + share * away for share in (0.1, 0.01, 1e-4))], 1)
    exact, fast = pairwise_distances(tokens), pairwise_distances(tokens, precision=torch.float32)
    norms = tokens.norm(dim=-1)
    near = exact < 2e-3 * torch.hypot(norms[:, :, None], norms[:, None])
    assert (fast[near] == 0).all() and (exact[near] > 0).any()
    assert (fast.diagonal(20, 1, 2)[:, :20] == 0).all()  # of duplicates
    assert torch.allclose(fast[~near], exact[~near], rtol=0.01, atol=0)


@pytest.mark.parametrize("width", [1, 3, 64, 768, 1000])
def test_slices_multiply_without_loss(width):
    """Points of 31 bits, as whole numbers: every product is exact, in float32 sums too."""
    bits = (24 - math.ceil(math.log2(width))) // 2
    whole = torch.randint(-(2**26), 2**26, (2, 9, width), generator=torch.Generator().manual_seed(0))
    products = [[[sum(map(mul, x, y)) for y in points] for x in points] for points in whole.tolist()]
    got = sliced_gram(whole.double())
    assert bits >= 7 and torch.equal(got, got.new_tensor(products))


def test_only_gpus_with_few_float64_units_are_slow_at_it(monkeypatch):
    assert not slow_at_float64(torch.device("cpu"))
    cards = {"P100": (6, 0), "V100": (7, 0), "T4": (7, 5), "A100": (8, 0), "A10": (8, 6), "L4": (8, 9), "H100": (9, 0)}
    cards |= {"B200": (10, 0), "B300": (10, 3), "RTX 5090": (12, 0)}
    slow = []
    for card, capability in cards.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        slow += [card] * slow_at_float64(torch.device("cuda"))
    assert slow == ["T4", "A10", "L4", "B300", "RTX 5090"]


@pytest.mark.parametrize(
    ("distance", "between"),
    [
        ("cosine", scipy.spatial.distance.cosine),
        (1, scipy.spatial.distance.cityblock),
        (3, lambda a, b: scipy.spatial.distance.minkowski(a, b, 3)),
    ],
)
def test_other_distances(distance, between):
    points = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    medoids, assignment = kmedoids(points[None], 7, distance=distance)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(points.tolist(), 7, between=between)


def test_normalised_tokens_are_on_the_unit_sphere_and_the_first_medoid_is_still_the_longest():
    points = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    longest = int(points.norm(dim=1).argmax())
    unit = (points / points.norm(dim=1, keepdim=True)).tolist()
    medoids, assignment = kmedoids(points[None], 7, normalise=True)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(unit, 7, first=longest)


def test_an_unknown_distance_is_refused():
    for wrong in ("manhattan", 0.5):
        with pytest.raises(ValueError, match="euclidean, cosine or a number"):
            kmedoids(torch.zeros(1, 4, 2), 2, distance=wrong)


def test_distances_are_symmetric_and_zero_between_equals_however_many_problems_at_a_time(monkeypatch):
    points = torch.randn(5, 30, 7, generator=torch.Generator().manual_seed(0))
    points[:, 20:] = points[:, :10]
    for distance in ("euclidean", "cosine", 1):
        together = pairwise_distances(points, distance)
        assert torch.equal(together, together.mT)
        assert (together[:, torch.arange(10), torch.arange(20, 30)] == 0).all()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules[kmedoids.__module__].PIECE, "cpu", 1)
            assert torch.equal(pairwise_distances(points, distance), together)


def test_hand_worked():
    """On a line: 9 has the largest norm, 0 is farthest from it; then 1 is the medoid of 0 1 2, and 8, the lower index,
    that of 8 9."""
    medoids, assignment = kmedoids(torch.tensor([[[0.0], [1.0], [2.0], [8.0], [9.0]]]), 2)
    assert medoids.tolist() == [[1, 3]]
    assert assignment.tolist() == [[0, 0, 0, 1, 1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_ties_among_whole_numbers_and_duplicates_are_the_loops_and_end(points, data):
    """On a line, where sums are exact. The loops have no limit of rounds."""
    clusters = data.draw(st.integers(1, len(points)))
    points = torch.tensor(points, dtype=torch.float32)[:, None]
    medoids, assignment = kmedoids(points[None], clusters)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(points.tolist(), clusters)


def test_a_medoid_that_equals_another_keeps_a_cluster_of_its_own():
    """5 is farthest out, then 0, then the second 5, at 0 from the first: all other 5s join the first's cluster."""
    medoids, assignment = kmedoids(torch.tensor([[[5.0], [0.0], [5.0], [0.0], [5.0]]]), 3)
    assert medoids.tolist() == [[0, 1, 2]]
    assert assignment.tolist() == [[0, 1, 2, 1, 0]]


@pytest.mark.parametrize("name", ["kmedoids", "spectral", "hpool"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_tokens_that_are_not_finite_are_refused(name, bad):
    points = torch.zeros(1, 4, 2)
    points[0, 1, 1] = bad
    with pytest.raises(FloatingPointError, match="finite"):
        reduction.algorithm(name)(points, 2)


@pytest.mark.parametrize("name", ["dpc_knn", "norm"])
def test_a_token_that_is_not_finite_is_kept_where_nothing_waits(name, monkeypatch):
    """As on a GPU: what is wrong goes on, and is seen in the vectors."""
    monkeypatch.setattr(f"centerclip.method.reduction.{name}.check_finite", lambda distances: None, raising=False)
    points = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))
    points[0, 7, 1] = torch.nan
    assert 7 in reduction.algorithm(name)(points, 2)[0]


@pytest.mark.parametrize("name", [name for name in reduction.names() if not reduction.sees_pixels(name)])
@pytest.mark.parametrize("clusters", [0, 5])
def test_impossible_numbers_of_clusters_are_refused(name, clusters):
    with pytest.raises(ValueError, match=r"4 tokens|tokens of 4"):
        Reduction(name, {})(torch.zeros(1, 4, 2), clusters, frames=2, segments=1, classes=1, scores=torch.zeros(1, 4))


@pytest.mark.parametrize("name", [name for name in reduction.names() if not reduction.sees_pixels(name)])
def test_no_problems_have_no_medoids(name):
    context = {"frames": 2, "segments": 1, "classes": 1, "scores": torch.zeros(0, 4)}
    medoids, assignment = Reduction(name, {})(torch.zeros(0, 4, 3), 2, **context)
    assert medoids.shape == (0, 2) and assignment.shape == (0, 4)


def test_options_are_read_from_the_files():
    assert reduction.options("random_tokens") == ["seed"] and reduction.options("pooling") == []
    assert reduction.context("pooling") == ["frames"] and reduction.context("kmedoids") == []
    assert reduction.context("sparse_sampling") == ["segments", "training"]
    assert [name for name in reduction.names() if reduction.sees_pixels(name)] == ["rlt"]


def test_a_file_declares_of_which_kind_its_algorithm_is(tmp_path, monkeypatch):
    kinds = {name: reduction.kind(name) for name in reduction.names()}
    assert kinds == {
        **dict.fromkeys(["kmedoids", "spectral"], "clustering"),
        **dict.fromkeys(["dpc_knn", "hpool", "pitome", "tome"], "merging"),
        **dict.fromkeys(
            ["evit", "first_tokens", "norm", "pooling", "random_tokens", "rlt", "sparse_sampling"], "sampling"
        ),
    }
    monkeypatch.setattr(reduction, "DIRECTORY", tmp_path)
    (tmp_path / "mine.py").write_text("def mine(tokens, clusters): ...")
    (tmp_path / "helper.py").write_text("KIND = 'other'")
    assert reduction.names() == ["mine"]
    for name in ("mine", "helper"):
        with pytest.raises(UserError, match=rf'{name}\.py: it has to declare KIND = "clustering" or KIND = '):
            reduction.kind(name)


def test_a_file_that_is_not_python_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(reduction, "DIRECTORY", tmp_path)
    (tmp_path / "unfinished.py").write_text("KIND = 'sampling'\ndef unfinished(")
    with pytest.raises(UserError, match=r"unfinished\.py:2: '\(' was never closed$"):
        reduction.names()


@pytest.fixture(params=["solver", "products"])
def way(request, monkeypatch) -> str:
    """How distances between eigenvectors' rows are found: as on a CPU, and as on a GPU."""
    monkeypatch.setattr(f"{spectral.__module__}.uses_matrix_products", lambda distances: request.param == "products")
    return request.param


def test_spectral_finds_two_rings_where_kmedoids_cannot(way):
    angle = torch.arange(60) * (2 * math.pi / 60)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    points, label = torch.cat([ring, 5 * ring]), torch.arange(120) // 60
    _, assignment = spectral(points[None], 2, neighbours=4)
    assert torch.equal(assignment[0] == assignment[0, 0], label == 0)
    _, assignment = kmedoids(points[None], 2)
    assert not torch.equal(assignment[0] == assignment[0, 0], label == 0)


def test_spectral_is_scipys_laplacian_eigenvectors_then_the_loops(way):
    points = torch.randn(36, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    distance = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points.numpy()))
    near = np.argsort(distance, axis=1)[:, :8]  # itself and 7 neighbours
    graph = np.zeros((36, 36))
    for i in range(36):
        for j in near[i]:
            graph[i, j] = graph[j, i] = math.exp(-(distance[i, j] ** 2) / (2 * 3.0**2))
    distances = pairwise_distances(points[None])
    assert np.allclose(affinity(distances, nearest(distances, 8), 3.0)[0], graph, atol=1e-6)
    degree = graph.sum(1)
    laplacian = np.eye(36) - graph / np.sqrt(np.outer(degree, degree))
    _, vectors = scipy.linalg.eigh(laplacian, subset_by_index=[0, 5])
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    medoids, assignment = spectral(points[None], 6, neighbours=8, sigma=3.0)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(rows.tolist(), 6, first=0)


@pytest.mark.parametrize(("count", "clusters"), [(2, 1), (7, 7), (30, 4), (147, 49), (245, 49)])
def test_the_projector_is_that_of_numpys_eigenvectors(count, clusters):
    """Of graphs whose eigenvalues K and K + 1 lie apart; so are the distances between rows, whichever way."""
    points = torch.randn(3, count, 8, generator=torch.Generator().manual_seed(count))
    distances = pairwise_distances(points)
    weights = affinity(distances, nearest(distances, 10), None)
    degrees = weights.double().numpy().sum(-1)
    values, vectors = np.linalg.eigh(weights.double().numpy() / np.sqrt(degrees[:, :, None] * degrees[:, None]))
    assert clusters == count or (values[:, -clusters] - values[:, -clusters - 1]).min() > 5e-5
    wanted = vectors[:, :, -clusters:]
    assert np.abs(projector(weights, clusters).numpy() - wanted @ wanted.swapaxes(1, 2)).max() < 2e-4
    ours, theirs = distances_by_products(weights, clusters), distances_by_solver(weights, clusters)
    assert torch.equal(ours, ours.mT) and torch.allclose(ours, theirs, atol=3e-3)


@pytest.mark.parametrize("clusters", [1, 5, 11, 12])
def test_where_more_eigenvalues_are_equal_than_are_wanted_rounding_decides(clusters):
    """Of 12 equal tokens, and of 12 without edges. What comes out is finite, and of equal tokens one is a vector's."""
    for weights in (torch.ones(1, 12, 12), torch.eye(12)[None]):
        between = distances_by_products(weights, clusters)
        assert torch.isfinite(between).all() and torch.equal(between, between.mT)
    assert distances_by_products(torch.ones(1, 12, 12), 1).max() == 0


@pytest.mark.parametrize(
    ("count", "frames", "neighbours"), [(98, 2, 10), (198, 2, 10), (200, 2, 15), (49, 1, 5), (100, 1, 10)]
)
def test_the_published_number_of_neighbours(count, frames, neighbours):
    points = torch.randn(1, count, 4, generator=torch.Generator().manual_seed(0))
    expected = spectral(points, 9, neighbours=neighbours)
    got = spectral(points, 9, frames=frames)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_pooling_is_a_cluster_a_patch():
    medoids, assignment = pooling(torch.zeros(2, 6, 3), 2, frames=3)
    assert medoids.tolist() == [[2, 3]] * 2  # the middle frame's
    assert assignment.tolist() == [[0, 1, 0, 1, 0, 1]] * 2


def test_sparse_sampling_takes_the_middle_of_equal_spans_and_a_random_one_in_training():
    """7 tokens in 3 spans: 0 1 2, 3 4, 5 6."""
    medoids, assignment = sparse_sampling(torch.zeros(1, 7, 1), 3)
    assert medoids.tolist() == [[1, 4, 6]] and assignment.tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    torch.manual_seed(0)
    drawn, _ = sparse_sampling(torch.zeros(200, 7, 1), 3, segments=200, training=True)
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [[0, 1, 2], [3, 4], [5, 6]]


def test_sparse_sampling_draws_once_for_all_videos_and_anew_for_each_segment():
    torch.manual_seed(0)
    medoids, _ = sparse_sampling(torch.zeros(3 * 2, 100, 1), 10, segments=2, training=True)
    first, second = medoids.view(3, 2, 10)[0]
    assert (medoids.view(3, 2, 10) == medoids[:2]).all() and not torch.equal(first, second)


def test_shifts_move_an_eighth_of_the_channels_each_way():
    """Token t, n has the value 10 t + n in all 16 channels."""
    values = torch.tensor([[[0.0, 1, 2], [10, 11, 12], [20, 21, 22]]])
    tokens = values[..., None].expand(-1, -1, -1, 16)
    moved = shifted(tokens)
    assert moved[..., 0].tolist() == moved[..., 1].tolist() == [[[10, 11, 12], [20, 21, 22], [0, 0, 0]]]
    assert moved[..., 2].tolist() == moved[..., 3].tolist() == [[[0, 0, 0], [0, 1, 2], [10, 11, 12]]]
    assert torch.equal(moved[..., 4:], tokens[..., 4:])
    for part, changed, kept in ((class_shifted, slice(0, 1), slice(1, 3)), (patches_shifted, slice(1, 3), slice(0, 1))):
        assert torch.equal(part(tokens)[:, :, changed], moved[:, :, changed])
        assert torch.equal(part(tokens)[:, :, kept], tokens[:, :, kept])


class Doubler(Tower):
    """A tower whose attention adds what it sees, and whose MLP adds ten times that."""

    def attended(self, block, x, places=None):
        return x

    def mlp(self, block, x):
        return 10 * x


@pytest.mark.parametrize(
    ("name", "of_class", "of_patches"),
    [
        # a block makes 22 x of x: 2 x after attention, then 11 times that
        ("temporal_shift", [22, 44, 66], [44, 66, 0]),  # the next frame's comes in once, before all
        ("token_shift", [66, 0, 0], [22, 44, 66]),  # and twice: before attention and before the MLP
        # x + next: 3, 5, 3; then 10 times the next one's of these are added
        ("temporal_shift_in_branches", [53, 35, 3], [53, 35, 3]),
        ("token_shift_in_branches", [53, 35, 3], [22, 44, 66]),
    ],
)
def test_where_a_shift_acts_hand_worked(name, of_class, of_patches):
    """Three frames of the values 1, 2, 3; the first channels come from the next frame."""
    tokens = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 1 + 4, 8)
    out = SHIFTS[name](Doubler(), None, tokens)
    assert out[0, :, 0, 0].tolist() == of_class and out[0, :, 1, 0].tolist() == of_patches
    assert out[0, :, :, 2:].tolist() == (22 * tokens[0, :, :, 2:]).tolist()


def test_spectral_finds_the_pieces_of_a_graph_and_its_lone_tokens(way):
    """Pieces of 7, 5 and 4 tokens and 3 single ones: so far from each other that weights between them are 0."""
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([0] * 7 + [1] * 5 + [2] * 4 + [3, 4, 5])[torch.randperm(19, generator=generator)]
    points = 1000 * torch.eye(6, 8)[label] + torch.randn(19, 8, generator=generator)
    _, (assignment,) = spectral(points[None], 6, neighbours=5, sigma=10)
    assert torch.equal(assignment[:, None] == assignment, label[:, None] == label)


@pytest.mark.parametrize("spread", [0.0, 1000.0])
def test_spectral_of_constant_tokens_or_only_lone_ones_has_a_medoid_in_every_cluster(way, spread):
    points = spread * torch.arange(12.0)[:, None] ** 4
    (medoids,), (assignment,) = spectral(points[None], 4, neighbours=2, sigma=1e-3)
    assert len(set(medoids.tolist())) == 4 and assignment[medoids].tolist() == [0, 1, 2, 3]
