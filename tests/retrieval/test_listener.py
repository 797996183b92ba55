"""What is known of frames: against a slow loop that says the same in words."""

import numpy as np
import pytest
from retrieval_samples import codebook, listener_steps, make_exam

from edge_codec.errors import EngineError, FrameError
from edge_codec.retrieval.exam_tokens import TOKENS, ExamTokens
from edge_codec.retrieval.listener import AGES, KNOWN, Listener

LISTENER = Listener(codebook(), listener_steps())


def known_in_words(tokens, keys):
    rows = []
    for phase, frame in enumerate(tokens):
        if keys[phase]:
            age, known = 0, np.zeros((TOKENS, KNOWN))
        step = LISTENER.steps[min(age, AGES - 1)]
        known = np.array([
            np.concatenate([known[place], LISTENER.codebook[token], [1.0]]) @ step
            for place, token in enumerate(frame)
        ])  # fmt: skip
        rows.append(known)
        age += 1
    return np.array(rows)


@pytest.mark.parametrize("key_interval", [1, 3, 32])
def test_frames_are_followed_since_their_key_frame(key_interval):
    exam = make_exam(3, 2, 15, key_interval=key_interval)
    known = LISTENER.listen(exam)
    assert known.shape == (2, 15, TOKENS, KNOWN)
    assert known.dtype == np.float32
    for index in range(2):
        expected = known_in_words(exam.tokens[index], exam.keys[index])
        np.testing.assert_allclose(known[index], expected, atol=1e-3)


def test_slices_have_key_frames_of_their_own():
    exam = make_exam(4, 2, 9)
    exam.keys[1, 4] = True
    known = LISTENER.listen(exam)
    for index in range(2):
        alone = ExamTokens(exam.tokens[index : index + 1], exam.keys[index : index + 1])
        np.testing.assert_allclose(known[index], LISTENER.listen(alone)[0], atol=1e-5)


def test_a_frame_depends_on_its_own_group_only():
    exam = make_exam(4, 1, 8, key_interval=4)
    other = exam.tokens.copy()
    other[:, :4] = 7
    changed, known = LISTENER.listen(ExamTokens(other, exam.keys)), LISTENER.listen(exam)
    np.testing.assert_array_equal(changed[:, 4:], known[:, 4:])
    assert (changed[:, :4] != known[:, :4]).any()


def test_weights_of_another_size_are_refused():
    with pytest.raises(EngineError, match="codebook and steps"):
        Listener(codebook()[:100], listener_steps())
    with pytest.raises(EngineError, match="codebook and steps"):
        Listener(codebook(), listener_steps()[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, k: (t.astype(np.int32), k), "int32"),
        (lambda t, k: (t[:, :, :31], k), "31"),
        (lambda t, k: (t[:, :0], k[:, :0]), "0 phases"),
        (lambda t, k: (t, k[:, 1:]), "keys are"),
        (lambda t, k: (t | np.uint16(4096), k), "codebook has 4096"),
        (lambda t, k: (t, ~k), "begin with a key frame"),
    ],
)
def test_tokens_that_are_no_exam_are_refused(change, message):
    exam = make_exam(0)
    with pytest.raises(FrameError, match=message):
        ExamTokens(*change(exam.tokens, exam.keys))
