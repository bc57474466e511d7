"""How much less a training takes that goes on from another one."""

from offline.build.config import configure, shortened


def test_epochs_and_warm_up_are_a_quarter() -> None:
    cold = configure("demo", {})
    warm = shortened(cold, query=True, generator=True)
    before = (cold.query_encoder.train, cold.generator.items.loop, cold.generator.tokens.loop)
    after = (warm.query_encoder.train, warm.generator.items.loop, warm.generator.tokens.loop)
    assert [loop.epochs for loop in before] == [5, 8, 10]
    assert [loop.epochs for loop in after] == [2, 2, 3]
    for one, other in zip(before, after, strict=True):
        assert other.warmup_steps == one.warmup_steps / 4
        as_before = {"epochs": one.epochs, "warmup_steps": one.warmup_steps}
        assert other.model_copy(update=as_before) == one


def test_epochs_that_are_asked_for_stay() -> None:
    warm = shortened(configure("demo", {}), query=False, generator=False)
    assert (warm.query_encoder.train.epochs, warm.generator.items.loop.epochs) == (5, 8)
