"""Methods of all channels together: draws, known matrices, and fiducio's own answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from marginseg.calibration import Calibration, LogAffine, VoxelSample, fit, voxel_sample
from marginseg.classes import Classes

CLASSES = Classes.softmax(["organ", "tumour"])


def softmaxes(seed, voxels, offsets=(3.0, 0.0, -2.0)):
    """Return a softmax of true probabilities, and labels drawn from it."""
    random = np.random.default_rng(seed)
    truth = softmax(random.normal(0, 1.5, (3, voxels)) + np.reshape(offsets, (3, 1)), 0)
    label = (random.random(voxels) > truth.cumsum(0)[:-1]).sum(0)
    return truth, label.astype(np.uint8)


def cross_entropy(p, label):
    return -np.log(p[label, np.arange(len(label))]).mean()


@pytest.mark.parametrize("method", ["vector", "matrix", "dirichlet"])
def test_a_known_distortion_is_taken_back(method):
    """The map is softmax(2 log p + c); vector scaling halves it, and shifts it back."""
    pytest.importorskip("fiducio")
    truth, label = softmaxes(0, 60_000)
    shift = np.reshape([0.0, 1.0, -1.0], (3, 1))
    p = softmax(2 * np.log(truth) + shift, 0)
    calibration = fit((p[:, :50_000], label[:50_000]), method=method, classes=CLASSES)
    after = calibration.apply(p[:, 50_000:])
    best = cross_entropy(truth[:, 50_000:], label[50_000:])
    before = cross_entropy(p[:, 50_000:], label[50_000:])
    assert cross_entropy(after, label[50_000:]) < best + 0.02 * (before - best)
    assert np.abs(after - truth[:, 50_000:]).mean() < 0.01
    np.testing.assert_allclose(after.sum(0), 1, rtol=1e-12)
    if method == "vector":
        np.testing.assert_allclose(np.diag(calibration.joint.weight), 0.5, atol=0.05)
        bias = np.array(calibration.joint.bias)
        np.testing.assert_allclose(bias - bias[0], -0.5 * (shift[:, 0] - shift[0]), atol=0.15)


def test_what_nobody_labelled_is_not_fitted():
    """By a mask, and by the label that means so; in inference mode too."""
    pytest.importorskip("fiducio")
    truth, label = softmaxes(3, 4_000)
    p = softmax(1.5 * np.log(truth), 0)
    kept = np.arange(4_000) < 3_000
    spoiled = np.where(kept, label, 0).astype(np.uint8)
    expected = fit((p[:, kept], label[kept]), method="matrix", classes=CLASSES)
    with torch.inference_mode():
        assert fit((p, spoiled, kept), method="matrix", classes=CLASSES) == expected
    ignoring = Classes.softmax(["organ", "tumour"], ignored=9)
    unlabelled = np.where(kept, label, 9).astype(np.uint8)
    assert fit((p, unlabelled), method="matrix", classes=ignoring) == expected


def test_it_applies_what_fiducio_would():
    """Where all voxels are drawn, the fit is fiducio's, and so is what comes of a map."""
    fiducio = pytest.importorskip("fiducio")
    truth, label = softmaxes(1, 3_000)
    p = softmax(1.5 * np.log(truth), 0)
    # The intercepts are not taken back where of each class all is drawn.
    calibration = fit((p, label), method="matrix", classes=CLASSES, voxels=100_000)
    peer = fiducio.MatrixScaling(input_type="probs", optimizer="lbfgs", max_iter=500, device="cpu")
    peer.fit(torch.from_numpy(p.T).float(), torch.from_numpy(label))
    theirs = peer.transform(torch.from_numpy(p.T).float()).T.numpy()
    np.testing.assert_allclose(calibration.apply(p), theirs, atol=2e-3)


def test_draws_of_a_rare_class_leave_the_others_right():
    """Of the background a fiftieth is drawn, of the tumour all; promises keep their sums."""
    pytest.importorskip("fiducio")
    truth, label = softmaxes(2, 200_000, offsets=(5.0, 0.0, -1.0))
    p = softmax(1.7 * np.log(truth), 0)
    calibration = fit((p, label), method="vector", classes=CLASSES, voxels=9_000)
    after = calibration.apply(p)
    count = np.bincount(label, minlength=3)
    assert count.min() < 3_000 < count.max() / 10
    promised = after.sum(1)
    # Three standard deviations of a class's draws, about as many as are drawn of it.
    assert (np.abs(promised / count - 1) < 5 / np.sqrt(np.minimum(count, 3_000)) + 0.02).all()


def test_a_fit_of_samples_is_that_of_their_cases():
    pytest.importorskip("fiducio")
    cases = [softmaxes(seed, 4_000) for seed in (5, 6)]
    samples = [
        voxel_sample(p, np.stack([label == 1, label == 2]), channels=[1, 2], background=0)
        for p, label in cases
    ]
    ours = fit(samples, method="matrix", classes=CLASSES)
    theirs = fit(cases, method="matrix", classes=CLASSES)
    p = cases[0][0]
    # All voxels are drawn, in another order.
    np.testing.assert_allclose(ours.apply(p), theirs.apply(p), atol=2e-3)
    with pytest.raises(ValueError, match="^cases: expected samples of 3 channels, got 2"):
        fit([VoxelSample(2)], method="matrix", classes=CLASSES)


def test_its_state_has_numbers_alone():
    pytest.importorskip("fiducio")
    truth, label = softmaxes(3, 5_000)
    calibration = fit((truth, label), method="dirichlet", classes=CLASSES)
    assert Calibration.from_state(calibration.state()) == calibration
    again = fit((truth, label), method="dirichlet", classes=CLASSES)
    assert again == calibration  # seeded


def test_what_is_0_stays_0_and_what_is_alone_stays():
    joint = LogAffine(((2.0, 0.3, 0.1), (0.0, 1.0, 0.0), (-0.5, 0.2, 0.5)), (1.0, -2.0, 1.0))
    calibration = Calibration("matrix", (1, 2), 0, joint=joint)
    p = np.array([[1.0, 0.0, 0.4, 0.2], [0.0, 0.0, 0.6, 0.3], [0.0, 0.0, 0.0, 0.5]])
    after = calibration.apply(p)
    assert after[:, :2].tolist() == p[:, :2].tolist()
    assert after[2, 2] == 0
    logs = np.log(np.maximum(p, 1e-12))
    plain = np.array(joint.weight) @ logs + np.reshape(joint.bias, (3, 1))
    np.testing.assert_allclose(after[:, 3], softmax(plain[:, 3]), rtol=1e-12)
    np.testing.assert_allclose(after[:2, 2], softmax(plain[:2, 2]), rtol=1e-12)


@pytest.mark.parametrize("most", [None, 80, 60])
def test_draws_are_uniform_among_cases(most):
    """Of a class in cases of 100 and 300 voxels, a quarter of the draws are of the first.

    Drawn at once, and joined from a sample of each case, as large or smaller.
    """
    shares = []
    for seed in range(200):
        sample = VoxelSample(2, 80, seed)
        for case, voxels in enumerate((100, 300)):
            p = torch.full((2, voxels), 0.5, dtype=torch.float64)
            p[0] = torch.arange(voxels) / 1000 + case / 2 + 1e-3
            labels = torch.zeros(voxels, dtype=torch.int16)
            if most is None:
                sample.draw(p, labels)
            else:
                alone = VoxelSample(2, most if case else 80, seed + 1000 * case)
                alone.draw(p, labels)
                sample.join(alone)
        drawn = sample.drawn[0][:, 0]
        size = (most or 80) // 2
        assert len(drawn) == len(np.unique(drawn)) == size
        assert (len(sample.drawn[1]), sample.seen.tolist()) == (0, [400, 0])
        shares.append((drawn < 0.5).mean())
    deviation = np.sqrt(0.25 * 0.75 / size * ((400 - size) / 399) / 200)
    assert abs(np.mean(shares) - 0.25) < 5 * deviation


def test_all_voxels_are_drawn_where_they_are_few():
    sample = VoxelSample(2, 1000, 0)
    random = np.random.default_rng(0)
    p = torch.from_numpy(softmax(random.normal(0, 1, (2, 5, 6)), 0))
    labels = torch.from_numpy(random.integers(0, 2, (5, 6)).astype(np.int16))
    labels[0] = -1
    sample.draw(p, labels)
    for channel in (0, 1):
        expected = p[:, labels == channel].T.numpy()
        found = sample.drawn[channel]
        assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))


def test_more_voxels_than_numpy_draws_from():
    sample = VoxelSample(1, 1000, 0)
    fresh = [sample._fresh(3 * 10**8, 9 * 10**8) for _ in range(200)]
    assert abs(np.mean(fresh) - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75 / 200)


@pytest.mark.parametrize(
    ("p", "target", "message"),
    [
        (np.full((3, 4), 0.3), np.full((2, 4), 0.5), "targets: expected labels, got soft ones"),
        (np.full((3, 4), 0.3), np.ones((2, 4)), "targets: expected classes that exclude"),
        (np.full((2, 4), 0.5), np.ones((2, 4)), "probabilities: expected 3 channels, got 2"),
        (np.full((3, 4), 1 / 3), np.array([0, 1, 1, 0]), "cases: expected voxels of every channel"),
        (np.full((3, 4), 0.5), np.array([0, 1, 2, 0]), "probabilities: expected a softmax"),
    ],
)
def test_cases_that_cannot_be_fitted_are_refused(p, target, message):
    pytest.importorskip("fiducio")
    with pytest.raises(ValueError, match=f"^{message}"):
        fit((p, target), method="matrix", classes=CLASSES)


def test_without_fiducio_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fiducio", None)
    truth, label = softmaxes(4, 100)
    with pytest.raises(ModuleNotFoundError, match=r"^method: matrix needs fiducio; pip install"):
        fit((truth, label), method="matrix", classes=CLASSES)
