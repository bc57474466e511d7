"""What the training of whole items computes faster than torch does: against torch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from offline.generator.items.group_sums import group_sums
from offline.generator.items.t5_layers import MASKED, decode_rows, drop
from tests.generator.made_up import random_t5


def grouped_scores() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    scores = 5 * torch.randn(6, 4, 3, dtype=torch.float64)
    scores[:, 2, 1:] = MASKED  # a group with one item
    return scores, torch.tensor([0, 3, 2, 2, 1, 0])


def test_group_sums_are_logsumexp_and_the_scores_of_a_group() -> None:
    scores, group = grouped_scores()
    sums, inside = group_sums(scores.clone(), group)
    torch.testing.assert_close(sums, scores.logsumexp(2))
    torch.testing.assert_close(inside, scores[torch.arange(6), group])


def test_gradients_of_group_sums_are_those_of_finite_differences() -> None:
    scores, group = grouped_scores()
    scores[:, 2, 1:] = -30.0
    assert torch.autograd.gradcheck(
        lambda s: group_sums(s.clone(), group), scores.requires_grad_(), eps=1e-6
    )


def test_gradients_of_group_sums_are_those_of_logsumexp() -> None:
    scores, group = grouped_scores()
    weights = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)

    def gradient(fast: bool) -> Tensor:
        own = scores.clone().requires_grad_()
        plain = own.logsumexp(2), own[torch.arange(6), group]
        sums, inside = group_sums(own.clone(), group) if fast else plain
        total = (sums * weights[0]).sum() + (inside * weights[1]).sum()
        return torch.autograd.grad(total, own)[0]

    torch.testing.assert_close(gradient(True), gradient(False))


RATE = 0.3
SHARE = round(RATE * 256) / 256


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    t5 = random_t5(20, {"dropout_rate": RATE}).train()
    torch.manual_seed(0)
    ones = torch.ones(1_000_003)  # not whole words of eight decisions
    dropped = drop(ones, t5)
    left_out = dropped == 0
    deviation = (SHARE * (1 - SHARE) / len(ones)) ** 0.5
    assert float(left_out.double().mean()) == pytest.approx(SHARE, abs=5 * deviation)
    assert float(dropped.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - SHARE))
    assert torch.unique(dropped).tolist() == pytest.approx([0, 1 / (1 - SHARE)])
    # The eight decisions of a word are as likely and know nothing of each other.
    words = left_out[:1_000_000].view(-1, 8).double().numpy()
    np.testing.assert_allclose(words.mean(0), SHARE, atol=15 * deviation)
    np.testing.assert_allclose(np.corrcoef(words.T), np.eye(8), atol=0.02)


def test_dropout_is_for_training() -> None:
    t5 = random_t5(20, {"dropout_rate": RATE}).train(False)
    values = torch.randn(5, 7)
    assert drop(values, t5) is values
    none = random_t5(20, {"dropout_rate": 0.0}).train()
    assert drop(values, none) is values


@torch.no_grad()
def test_the_decoder_computes_what_that_of_transformers_does() -> None:
    t5 = random_t5(20, {}).train(False)
    torch.manual_seed(0)
    rows, memory = torch.randn(2, 3, 4, 32), torch.randn(2, 5, 32)
    ends = torch.tensor([[5, 2, 3], [1, 4, 5]])
    visible = torch.arange(5) < ends[:, :, None]
    found = decode_rows(t5, rows, memory, visible)
    for user, (sequences, states) in enumerate(zip(rows, memory, strict=True)):
        for place, row in enumerate(sequences):
            expected = t5.decoder(
                inputs_embeds=row[None], encoder_hidden_states=states[None, : ends[user, place]]
            ).last_hidden_state[0]
            torch.testing.assert_close(found[user, place], expected, atol=1e-5, rtol=1e-4)
