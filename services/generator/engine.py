"""The generator engine: prompts in, ranked items out.

Blocking and thread-safe: ONNX Runtime releases the interpreter's lock while it runs, and one
session serves any number of threads. Items are positions in the catalog throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.catalog import ItemArray, Mask
from services.generator.parts import GeneratorParts, load_parts
from services.generator.prompts import Template, render_ids
from services.generator.trie import PrefixTree

_DEAD = -1e29
"""Above the score of what is not allowed, below every sum of log-probabilities."""


@dataclass(frozen=True)
class Context:
    """What the model is told about a user."""

    user: int | None
    """The user's position in the bundle, or None for an unknown user."""
    history: ItemArray
    """Oldest first."""


@dataclass(frozen=True)
class GenerateQuery:
    """A request for the best items of the catalog."""

    context: Context
    count: int
    allowed: Mask | None
    """[items] what a filter lets through; None for everything."""
    denied: ItemArray
    """Items to leave out."""


@dataclass(frozen=True)
class RerankQuery:
    """A request for the scores of given items."""

    context: Context
    items: ItemArray


@dataclass(frozen=True)
class Ranked:
    """Items, best first, with the log-probabilities of their codes."""

    items: ItemArray
    scores: NDArray[np.float32]


class GeneratorEngine:
    """The P5 model of one bundle."""

    def __init__(self, parts: GeneratorParts) -> None:
        self.parts = parts
        self.trie = parts.trie
        self._widths = parts.trie.widths.astype(np.int64)

    @classmethod
    def load(
        cls, bundle: Bundle, *, threads: int, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> "GeneratorEngine":
        """Loads the engine of a bundle; see `load_parts`."""
        return cls(load_parts(bundle, threads=threads, providers=list(providers)))

    def with_template(self, template: Template) -> "GeneratorEngine":
        """The same model, asked with another prompt."""
        return GeneratorEngine(replace(self.parts, template=template))

    def generate(self, queries: Sequence[GenerateQuery]) -> list[Ranked]:
        """Finds the best allowed items of the catalog for each query, by beam search.

        As many come back as were asked for, or all allowed ones where there are fewer.
        """
        masks = np.stack([self.trie.alive(query.allowed, query.denied) for query in queries])
        beams = max(self.parts.section.beams, *(query.count for query in queries))
        node, score = self.parts.generate.run(
            ["node", "score"],
            {
                **self.prompts([query.context for query in queries]),
                "trie_token": self.trie.token,
                "trie_child_start": self.trie.child_start,
                "trie_widths": self._widths,
                "alive": masks,
                "alive_row": np.arange(len(queries), dtype=np.int64),
                "beams": np.array([beams], dtype=np.int64),
            },
        )
        return [
            self._ranked(row_node, row_score, query.count)
            for row_node, row_score, query in zip(node, score, queries, strict=True)
        ]

    def rerank(self, queries: Sequence[RerankQuery]) -> list[Ranked]:
        """Orders the items of each query by their exact scores. Ties keep the query's order."""
        trees = [self.trie.prefixes(query.items) for query in queries]
        (scores,) = self.parts.rerank.run(
            ["score"],
            {**self.prompts([query.context for query in queries]), **_stack(trees)},
        )
        ranked = []
        for query, row in zip(queries, scores, strict=True):
            own = row[: len(query.items)]
            order = np.argsort(-own, kind="stable")
            ranked.append(Ranked(query.items[order], own[order]))
        return ranked

    def _ranked(self, node: NDArray[np.int64], score: NDArray[np.float32], count: int) -> Ranked:
        found = score[:count] > _DEAD
        leaves = node[:count][found] - self.trie.leaf_base
        return Ranked(self.trie.leaf_item[leaves], score[:count][found])

    def prompts(self, contexts: Sequence[Context]) -> dict[str, NDArray[np.int64]]:
        """Renders and pads the prompts; both arrays are [queries, tokens]."""
        parts = self.parts
        prompts = [
            render_ids(
                parts.template if len(context.history) else parts.direct,
                self._encode,
                dataset=parts.dataset,
                user=context.user,
                history=[
                    parts.code_texts[i] for i in context.history[-parts.section.max_history :]
                ],
                max_tokens=parts.section.max_input_tokens,
            )
            for context in contexts
        ]
        ids = np.full((len(prompts), max(map(len, prompts))), parts.section.pad_token, np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
            mask[row, : len(prompt)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.parts.tokenizer.encode(text).ids
        return ids


def _stack(trees: Sequence[PrefixTree]) -> dict[str, NDArray[np.int64] | Mask]:
    """Pads prefix trees to one batch.

    Rows beyond a tree's own see nothing and are read by no one; items beyond its own follow row 0.
    """
    batch, levels = len(trees), trees[0].path.shape[1]
    rows = max(len(tree.token) for tree in trees)
    items = max(len(tree.path) for tree in trees)
    token = np.zeros((batch, rows), np.int64)
    depth = np.zeros((batch, rows), np.int64)
    sees = np.zeros((batch, rows, rows), np.bool_)
    path = np.zeros((batch, items, levels), np.int64)
    target = np.zeros((batch, items, levels), np.int64)
    for i, tree in enumerate(trees):
        own, asked = len(tree.token), len(tree.path)
        token[i, :own] = tree.token
        depth[i, :own] = tree.depth
        sees[i, :own, :own] = tree.sees
        path[i, :asked] = tree.path
        target[i, :asked] = tree.target
    return {"token": token, "depth": depth, "sees": sees, "path": path, "target": target}
