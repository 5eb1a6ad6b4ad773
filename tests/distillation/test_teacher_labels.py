"""Labels that teachers give (TESLA)."""

import numpy as np
import pytest

import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill.distillation import MTTDistiller
from skdistill.utils._tensors import to_images as as_images


@pytest.mark.parametrize("n_matches", [1, 2])
def test_labels_of_the_teacher_are_those_where_the_student_shall_end(
    tiny_bars, tiny_teachers, monkeypatch, n_matches
):
    """As the teacher's own network says, in each match; none are learned."""
    seen = []
    real = matcher_module.match_gradient

    def match_gradient(network, start, end, images, labels, *args, **kwargs):
        seen.append((end, images, labels))
        return real(network, start, end, images, labels, *args, **kwargs)

    monkeypatch.setattr(matcher_module, "match_gradient", match_gradient)
    distiller = MTTDistiller(
        buffer=tiny_teachers,
        labels="teacher",
        max_start_epoch=2,
        n_target_epochs=1,
        n_steps=2,
        n_matches=n_matches,
        max_iter=3,
        random_state=0,
    ).fit(*tiny_bars)
    assert len(seen) == 3 * n_matches
    for end, images, labels in seen:
        which = [
            (teacher, epoch)
            for teacher in range(tiny_teachers.n_teachers_)
            for epoch in tiny_teachers.snapshot_epochs_
            if np.array_equal(tiny_teachers.snapshot(teacher, epoch), end.numpy())
        ]
        expected = tiny_teachers.classifier(*which[0]).predict_proba(as_images(images))
        np.testing.assert_allclose(labels.numpy(), expected, rtol=1e-4, atol=1e-5)
    # The set is stored with the mean over teachers at the last epoch aimed at.
    X, _ = distiller.synthetic_
    expected = np.mean(
        [
            tiny_teachers.classifier(teacher, 2).predict_proba(X)
            for teacher in range(tiny_teachers.n_teachers_)
        ],
        axis=0,
    )
    found = distiller.synthetic_.probabilities
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
