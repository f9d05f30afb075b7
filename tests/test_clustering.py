"""k-medoids++ and spectral clustering against plain Python loops, dense eigenvectors and hand-made problems."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centerclip import clustering
from centerclip.clustering.kmedoids import kmedoids, pairwise_distances
from centerclip.clustering.spectral import affinity, spectral


def kmedoids_by_loops(points, clusters, first=None):
    """k-medoids++ of one problem as the paper tells it, in plain Python: an oracle that shares no code."""
    points = [[float(value) for value in point] for point in points]
    n = len(points)
    distance = [[math.dist(a, b) for b in points] for a in points]

    def assign(medoids):
        own = {medoid: cluster for cluster, medoid in enumerate(medoids)}
        nearest = [min(range(clusters), key=lambda c: (distance[medoids[c]][i], c)) for i in range(n)]
        return [own.get(i, nearest[i]) for i in range(n)]

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
            moved.append(min(members, key=lambda i: (sum(distance[i][j] for j in members), i not in medoids, i)))
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
    assert kmedoids(points[None], 5)[0][0].tolist() == kmedoids_by_loops(points.tolist(), 5)[0]


def test_hand_worked():
    """On a line: 9 has the largest norm, 0 is farthest from it; then 1 is the medoid of 0 1 2, and 8 ties with 9."""
    medoids, assignment = kmedoids(torch.tensor([[[0.0], [1.0], [2.0], [8.0], [9.0]]]), 2)
    assert medoids.tolist() == [[1, 4]]
    assert assignment.tolist() == [[0, 0, 0, 1, 1]]


tokens = st.integers(0, 10**6).map(lambda seed: torch.randn(20, 4, generator=torch.Generator().manual_seed(seed)))


@settings(max_examples=30, deadline=None)
@given(tokens, st.integers(1, 20), st.randoms(use_true_random=False))
def test_permuting_tokens_permutes_the_answer(points, clusters, random):
    order = random.sample(range(20), 20)
    medoids = {order.index(i) for i in kmedoids(points[None], clusters)[0][0].tolist()}
    assert medoids == set(kmedoids(points[order][None], clusters)[0][0].tolist())


@settings(max_examples=30, deadline=None)
@given(tokens, st.integers(1, 20))
def test_invariants(points, clusters):
    problem = torch.stack([points, points.flip(0), 2 * points])
    for algorithm in (kmedoids, spectral):
        medoids, assignment = algorithm(problem, clusters)
        assert medoids.dtype == assignment.dtype == torch.int64
        assert (medoids.diff(dim=1) > 0).all()
        assert torch.equal(assignment.gather(1, medoids), torch.arange(clusters).expand(3, -1))
        for index in range(3):
            alone = algorithm(problem[index : index + 1], clusters)
            assert torch.equal(alone[0][0], medoids[index]) and torch.equal(alone[1][0], assignment[index])
    assert kmedoids(points[None], 20)[0].tolist() == [list(range(20))]


@settings(max_examples=20, deadline=None)
@given(tokens, st.integers(1, 10))
def test_more_rounds_never_raise_the_objective(points, clusters):
    distances = pairwise_distances(points[None])[0]

    def objective(rounds):
        medoids, assignment = kmedoids(points[None], clusters, iterations=rounds)
        return distances[torch.arange(20), medoids[0][assignment[0]]].sum().item()

    values = [objective(rounds) for rounds in range(6)]
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize("name", clustering.names())
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_tokens_that_are_not_finite_are_refused(name, bad):
    points = torch.zeros(1, 4, 2)
    points[0, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        clustering.algorithm(name)(points, 2)


@pytest.mark.parametrize("name", clustering.names())
@pytest.mark.parametrize("clusters", [0, 5])
def test_impossible_numbers_of_clusters_are_refused(name, clusters):
    with pytest.raises(ValueError, match="4 tokens"):
        clustering.algorithm(name)(torch.zeros(1, 4, 2), clusters)


def test_names_and_options_are_read_from_the_files():
    assert {"kmedoids", "spectral"} <= set(clustering.names())
    assert clustering.options("spectral") == ["neighbours", "sigma", "iterations"]


@pytest.mark.parametrize("sigma", [None, 2.0])
def test_spectral_recovers_planted_partitions(sigma):
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.eye(6, 16)
    label = torch.randint(6, (90,), generator=generator)
    points = centres[label] + 0.1 * torch.randn(90, 16, generator=generator)
    _, assignment = spectral(points[None], 6, neighbours=5, sigma=sigma)
    pairs = set(zip(label.tolist(), assignment[0].tolist(), strict=True))
    assert len(pairs) == 6  # each planted part is one cluster


def test_spectral_finds_two_rings_where_kmedoids_cannot():
    angle = torch.arange(60) * (2 * math.pi / 60)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    points, label = torch.cat([ring, 5 * ring]), torch.arange(120) // 60
    _, assignment = spectral(points[None], 2, neighbours=4)
    assert torch.equal(assignment[0] == assignment[0, 0], label == 0)
    _, assignment = kmedoids(points[None], 2)
    assert not torch.equal(assignment[0] == assignment[0, 0], label == 0)


def test_spectral_is_scipys_laplacian_eigenvectors_then_the_loops():
    points = torch.randn(36, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    distance = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points.numpy()))
    near = np.argsort(distance, axis=1)[:, :8]  # itself and 7 neighbours
    graph = np.zeros((36, 36))
    for i in range(36):
        for j in near[i]:
            graph[i, j] = graph[j, i] = math.exp(-(distance[i, j] ** 2) / (2 * 3.0**2))
    assert np.allclose(affinity(pairwise_distances(points[None]).double(), 7, 3.0)[0], graph, atol=1e-6)
    degree = graph.sum(1)
    laplacian = np.eye(36) - graph / np.sqrt(np.outer(degree, degree))
    _, vectors = scipy.linalg.eigh(laplacian, subset_by_index=[0, 5])
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    medoids, assignment = spectral(points[None], 6, neighbours=7, sigma=3.0)
    assert (medoids[0].tolist(), assignment[0].tolist()) == kmedoids_by_loops(rows.tolist(), 6, first=0)


def test_spectral_survives_a_graph_in_pieces_and_lone_tokens():
    far = torch.arange(12.0)[:, None] ** 4 * 1000  # weights underflow between all of them
    medoids, _ = spectral(far[None], 4, neighbours=2, sigma=1e-3)
    assert medoids.shape == (1, 4)
    medoids, _ = spectral(torch.zeros(1, 12, 3), 4)
    assert medoids.shape == (1, 4)
