"""How much less a training takes that goes on from another one."""

from offline.build.config import configure, shortened


def test_epochs_and_rates_are_a_quarter() -> None:
    cold = configure("demo", {})
    warm = shortened(cold, query=True, generator=True)
    before = (cold.query_encoder.train, cold.generator.items.loop, cold.generator.tokens.loop)
    after = (warm.query_encoder.train, warm.generator.items.loop, warm.generator.tokens.loop)
    assert [loop.epochs for loop in before] == [5, 8, 10]
    assert [loop.epochs for loop in after] == [2, 2, 3]
    for one, other in zip(before, after, strict=True):
        assert other.learning_rate == one.learning_rate / 4
        assert (
            other.model_copy(update={"epochs": one.epochs, "learning_rate": one.learning_rate})
            == one
        )


def test_epochs_that_are_asked_for_stay() -> None:
    warm = shortened(configure("demo", {}), query=False, generator=False)
    assert (warm.query_encoder.train.epochs, warm.generator.items.loop.epochs) == (5, 8)
