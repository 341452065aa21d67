"""The chunked softmax over all items, against Torch's."""

import pytest
import torch

from sparkrec.nn import losses


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 19])
def test_equals_cross_entropy_and_so_do_its_gradients(
    chunk: int, corrected: bool, weighed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_CHUNK_SCORES", chunk)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    positive = torch.tensor([0, 5, 2, 2, 1, 0, 3, 4, 5])
    log_q = torch.randn(6, generator=generator, dtype=torch.float64) if corrected else None
    weight = torch.rand(9, generator=generator, dtype=torch.float64) if weighed else None
    (3 * losses.shared_softmax_loss(queries, items, positive, log_q, weight=weight)).backward()
    found = queries.grad.clone(), items.grad.clone()
    queries.grad = items.grad = None
    scores = queries @ items.T
    of_rows = torch.nn.functional.cross_entropy(
        scores if log_q is None else scores - log_q, positive, reduction="none"
    )
    wanted = (of_rows if weight is None else of_rows * weight).mean()
    again = losses.shared_softmax_loss(queries, items, positive, log_q, weight=weight)
    assert again.item() == pytest.approx(wanted.item(), rel=1e-5)
    (3 * wanted).backward()
    assert torch.allclose(found[0], queries.grad, atol=1e-5)
    assert torch.allclose(found[1], items.grad, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    queries = torch.tensor([[1e4]], requires_grad=True)
    items = torch.tensor([[1.0], [-1.0]])
    loss = losses.shared_softmax_loss(queries, items, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert queries.grad.item() == pytest.approx(2.0)


def test_is_the_softmax_of_one_positive_among_all_others() -> None:
    """The same number as `softmax_loss` with every other item as a negative."""
    queries, items = torch.randn(5, 3), torch.randn(4, 3)
    positive = torch.tensor([0, 1, 2, 3, 0])
    scores = queries @ items.T
    mask = torch.arange(4) != positive[:, None]
    own = scores.gather(1, positive[:, None])[:, 0]
    wanted = losses.softmax_loss(own, scores, mask)
    assert losses.shared_softmax_loss(queries, items, positive).item() == pytest.approx(
        wanted.item()
    )


def test_half_precision_is_close() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(200, 32, generator=generator, requires_grad=True)
    items = torch.randn(300, 32, generator=generator, requires_grad=True)
    positive = torch.randint(0, 300, (200,), generator=generator)
    found = []
    for half in (False, True):
        queries.grad = items.grad = None
        loss = losses.shared_softmax_loss(queries, items, positive, half_precision=half)
        loss.backward()
        found.append((loss, queries.grad, items.grad))
    exact, rough = found
    assert rough[0].item() == pytest.approx(exact[0].item(), rel=2e-3)
    for one, other in zip(exact[1:], rough[1:], strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() / one.norm() < 0.01
        assert not torch.equal(one, other)
