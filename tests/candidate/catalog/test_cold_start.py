"""Where new items come to stand: their code, and their vectors."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from core.catalog import CatalogItem
from core.codes import ItemCode
from core.errors import BundleError, FailedPrecondition
from services.candidate.catalog.code_allocator import CodeAllocator
from services.candidate.changes import ChangeSet
from tests.candidate.coded import OLD_CODES, item_codes, make_allocator, make_placer
from tests.candidate.made_up import BEHAVIOR, CONTENT, make_world, unit
from tests.candidate.small_bundle import CODES, PROJECTION, VALUES, code_text, code_tokenizer

WORLD = make_world()
A, B = (sorted(set(CODES[:, level].tolist())) for level in (0, 1))


def code(*tokens: int) -> ItemCode:
    return ItemCode(code_text(list(tokens)), tokens)


def test_the_beginning_is_that_of_the_nearest_item() -> None:
    allocator = make_allocator()
    assert OLD_CODES.of(0) == code(A[0], B[0])
    # Of codes that begin with A[0] those with B[0], B[1] and B[2] are taken: items 0, 14 and 28.
    assert allocator.allocate([OLD_CODES.of(0), OLD_CODES.of(1)]) == code(A[0], B[3])
    assert allocator.allocate([OLD_CODES.of(0)]) == code(A[0], B[4])


def test_where_the_nearest_has_no_room_the_next_gives_its_beginning() -> None:
    allocator = make_allocator()
    while (given := allocator.allocate([OLD_CODES.of(0)])).tokens[0] == A[0]:
        pass
    assert given.tokens[0] == A[1]  # the first beginning that has room, when no model has
    assert allocator.allocate([OLD_CODES.of(0), OLD_CODES.of(5)]).tokens[0] == A[5]


def test_a_code_that_would_do_is_kept() -> None:
    allocator = make_allocator()
    own = allocator.allocate([OLD_CODES.of(3)])
    assert allocator.allocate([OLD_CODES.of(3), OLD_CODES.of(0)], own) == own
    moved = allocator.allocate([OLD_CODES.of(0)], own)
    assert moved.tokens[0] == A[0]
    assert allocator.allocate([OLD_CODES.of(3)]) == own  # which is free again


def test_undo_gives_back_what_was_taken() -> None:
    allocator = make_allocator()
    first = allocator.allocate([OLD_CODES.of(0)])
    mark = allocator.savepoint()
    second = allocator.allocate([OLD_CODES.of(0)])
    allocator.release(OLD_CODES.of(0))
    allocator.rollback(mark)
    assert allocator.allocate([OLD_CODES.of(0)]) == second
    allocator.release(first)
    assert allocator.allocate([OLD_CODES.of(0)]) == first


def test_when_every_code_is_in_use_there_is_an_error() -> None:
    allocator = make_allocator()
    given = [allocator.allocate([OLD_CODES.of(i % 30)]).tokens for i in range(VALUES**2 - 30)]
    assert sorted([*given, *map(tuple, CODES[:30].tolist())]) == sorted(product(A, B))
    mark = allocator.savepoint()
    with pytest.raises(FailedPrecondition) as error:
        allocator.allocate([OLD_CODES.of(0)])
    assert error.value.reason == "NO_FREE_CODE"
    allocator.rollback(mark)
    allocator.release(code(*given[7]))
    assert allocator.allocate([]).tokens == given[7]


@settings(max_examples=40, deadline=None)
@given(
    codes=st.sets(st.tuples(*[st.integers(2, 5)] * 3), min_size=1, max_size=40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=60),
)
def test_codes_are_never_given_twice(
    codes: set[tuple[int, ...]], steps: list[tuple[bool, int]]
) -> None:
    rows = np.array(sorted(codes), np.int32)
    texts = ["".join(f"<{level}{token}>" for level, token in enumerate(row)) for row in rows]
    words = {f"<{level}{token}>": token for level in range(3) for token in range(2, 6)}
    tokenizer = Tokenizer(models.WordLevel(words, "<02>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(">", "merged_with_previous")
    own = item_codes(rows, texts)
    allocator = CodeAllocator(own, tokenizer)
    levels = [sorted(set(column)) for column in rows.T.tolist()]
    free = set(product(*levels)) - codes
    given: list[ItemCode] = []
    for give, number in steps:
        if not give:
            if given:
                released = given.pop(number % len(given))
                allocator.release(released)
                free.add(released.tokens)
        elif free:
            model = own.of(number % len(rows))
            new = allocator.allocate([model])
            assert new.tokens in free
            assert new.text == "".join(f"<{i}{token}>" for i, token in enumerate(new.tokens))
            # No free code has more of its beginning in common with the model.
            assert common(new.tokens, model.tokens) == max(common(f, model.tokens) for f in free)
            free.remove(new.tokens)
            given.append(new)


def common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b), 2)


def test_codes_of_different_lengths_end_where_they_end() -> None:
    rows = np.array([[2, 16, 1], [2, 1, 0], [3, 17, 1]], np.int32)
    codes = item_codes(rows, ["<a_2><b_16>", "<a_2>", "<a_3><b_17>"])
    allocator = CodeAllocator(codes, code_tokenizer())
    assert codes.of(1) == ItemCode("<a_2>", (2,))
    assert allocator.allocate([codes.of(1)]) == ItemCode(
        "<a_2><b_17>", (2, 17)
    )  # as long as the longest
    assert allocator.allocate([codes.of(0)]) == ItemCode("<a_3><b_16>", (3, 16))


def test_without_codes_there_is_no_allocator() -> None:
    with pytest.raises(BundleError):
        CodeAllocator(item_codes(np.empty((0, 2), np.int32)), code_tokenizer())


def test_a_new_item_is_placed_by_its_vector() -> None:
    placer = make_placer()
    item = CatalogItem("new", "New", "new", {}, 0)
    content = unit(WORLD.content[7:8] + 0.01)[0]
    placed = placer.place(WORLD.engine, item, content, None)
    assert placed.code.tokens[0] == placer.codes.of(7).tokens[0]
    mapped = content @ PROJECTION[:-1] + PROJECTION[-1]
    np.testing.assert_allclose(placed.behavior, mapped / np.linalg.norm(mapped), rtol=1e-5)
    assert (len(placed.content), len(placed.behavior)) == (CONTENT, BEHAVIOR)
    # It is an item like others: its code can be read, and be the model of the next one's.
    after = WORLD.engine.applied(ChangeSet([placed], 1))
    again = placer.placed(after, "new")
    assert again is not None
    assert (again.item, again.code) == (item, placed.code)
    np.testing.assert_array_equal(again.content, content)
    assert placer.placed(after, "nowhere") is None
    assert placer.placed(WORLD.engine, "new") is None
