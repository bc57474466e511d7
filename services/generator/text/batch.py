"""The texts that are written at a time: which go on, which begin, and what is said of each."""

import time
from collections.abc import Callable, Sequence

import structlog

from services.generator.text.engine import TextEngine
from services.generator.text.places import Place, Stop
from services.generator.text.rows import Encoded
from services.generator.turns import ModelTurns

log = structlog.get_logger()


class TextBatch:
    """A batch whose texts come and go between two steps.

    It is for one thread. Each run of the model, a step or the reading of prompts, is one turn.

    Args:
        engine: of the model.
        turns: at the model.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        engine: TextEngine,
        turns: ModelTurns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._turns = turns
        self._clock = clock
        self._step_seconds = 0.0
        self.places: list[Place] = []
        """In the order of the engine's texts."""

    def goes_on(self, place: Place) -> bool:
        """Whether there is somebody to read one more token, and time for it."""
        return not place.left and self._clock() + self._step_seconds < place.ends

    def step(self, joining: Sequence[Place] = ()) -> None:
        """Drops what is not to go on, begins what joins, and writes a token of each text.

        Whatever fails is told those whose texts it ends; nothing is raised.
        """
        try:
            self._make_room(joining)
            if self.places:
                self._write()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the texts
            log.warning("texts failed", size=len(self.places), error=repr(error))
            for place in self.places:
                place.fail(error)
            self._change([], [], [])

    def _make_room(self, joining: Sequence[Place]) -> None:
        keep = []
        for i, place in enumerate(self.places):
            if self.goes_on(place):
                keep.append(i)
            elif not place.left:
                place.finish(Stop.DEADLINE, self._clock())
        if joining or len(keep) < len(self.places):
            self._change(keep, *self._read(joining))

    def _read(self, joining: Sequence[Place]) -> tuple[Sequence[Place], list[Encoded]]:
        """Reads prompts together; where that fails, one by one, so that only the one to blame
        fails."""
        if not joining:
            return [], []
        now = self._clock()
        try:
            with self._turns.turn():
                rows = self._engine.encode([place.job for place in joining])
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the text
            if len(joining) == 1:
                joining[0].fail(error)
                return [], []
            alone = [self._read([place]) for place in joining]
            read = [pair for places, found in alone for pair in zip(places, found, strict=True)]
            return [place for place, _ in read], [row for _, row in read]
        for place in joining:
            place.joined = now
        return joining, rows

    def _write(self) -> None:
        started = self._clock()
        with self._turns.turn():
            tokens = self._engine.step()
        now = self._clock()
        self._step_seconds = now - started
        said = zip(self.places, tokens, strict=True)
        keep = [i for i, (place, token) in enumerate(said) if not self._ends(place, token, now)]
        if len(keep) < len(self.places):
            self._change(keep, [], [])

    def _ends(self, place: Place, token: int, now: float) -> bool:
        """Passes a token on; whether the text ends with it."""
        if token == self._engine.section.end_token:
            place.finish(Stop.END, now)
            return True
        place.say(token, now)
        if place.tokens < place.job.max_tokens:
            return False
        place.finish(Stop.MAX_TOKENS, now)
        return True

    def _change(
        self, keep: Sequence[int], joining: Sequence[Place], rows: Sequence[Encoded]
    ) -> None:
        self._engine.change(keep, [place.job for place in joining], rows)
        self.places = [*(self.places[i] for i in keep), *joining]
