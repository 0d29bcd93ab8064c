"""Means of named scalars."""

import io

import torch

from agit_hub.training.figures import MeanMetrics


def test_means_are_over_what_was_noted_under_each_name() -> None:
    figures = MeanMetrics()
    assert not figures
    for value in (1.0, 2.0, 6.0):
        figures.add("often", torch.tensor(value))
    figures.add_all({"once": torch.tensor(5.0), "often": torch.tensor(3.0)})
    assert figures
    assert {name: mean.item() for name, mean in figures.means().items()} == {"often": 3, "once": 5}


def test_a_noted_loss_keeps_its_graph_and_the_note_has_none() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    figures = MeanMetrics()
    loss = weight * 3
    assert figures.add("loss", loss) is loss
    loss.backward()
    assert weight.grad is not None and weight.grad.item() == 3
    assert not figures.means()["loss"].requires_grad


def test_sums_do_not_lose_small_numbers_to_bfloat16() -> None:
    figures = MeanMetrics()
    for _ in range(600):  # in bfloat16, 256 + 1 is 256
        figures.add("one", torch.tensor(1.0, dtype=torch.bfloat16))
    assert figures.means()["one"].item() == 1


def test_a_resumed_mean_goes_on() -> None:
    figures, resumed = MeanMetrics(), MeanMetrics()
    figures.add("a", torch.tensor(1.0))
    figures.add("a", torch.tensor(2.0))
    file = io.BytesIO()
    torch.save(figures.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True), torch.device("cpu"))
    # What happens to the first one now is no matter of the second.
    figures.add("a", torch.tensor(100.0))
    resumed.add("a", torch.tensor(6.0))
    assert resumed.means()["a"].item() == 3
