"""The models of one seed, whichever arms they have a part in."""

from dataclasses import dataclass

from offline.build.cache import Built


@dataclass(frozen=True)
class Models:
    """Stages of builds."""

    dataset: Built
    transitions: Built
    query_encoder: Built
    second_encoder: Built
    generator: Built
    random_codes: Built
    """The generator whose codes say nothing."""

    def all(self) -> tuple[Built, ...]:
        """Everything that scores depend on."""
        return (
            self.dataset,
            self.transitions,
            self.query_encoder,
            self.second_encoder,
            self.generator,
            self.random_codes,
        )
