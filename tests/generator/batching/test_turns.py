"""Turns at the model."""

import threading

from services.generator.turns import ModelTurns


def test_whoever_asked_first_is_next() -> None:
    turns, order = ModelTurns(), list[int]()

    def run(number: int) -> None:
        with turns.turn():
            order.append(number)

    threads = []
    with turns.turn():
        for number in range(5):
            threads.append(threading.Thread(target=run, args=[number]))
            threads[-1].start()
            while turns.waiting <= number:
                threading.Event().wait(0.005)
    for thread in threads:
        thread.join(10)
    assert order == list(range(5))


def test_a_run_that_fails_passes_its_turn_on() -> None:
    turns = ModelTurns()

    def fail(_: int) -> int:
        raise RuntimeError

    for _ in range(2):
        try:
            turns.taken(fail)(1)
        except RuntimeError:
            continue
    assert turns.taken(str)(1) == "1"
