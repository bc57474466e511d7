"""The model as ONNX graphs of one precision, and how arrays get in and out of them.

    prompts ──▶ encode ──┬──▶ generate ──▶ leaves and scores
                         ├──▶ rerank ────▶ scores
                         └──▶ text ──────▶ logits of the next token, where it writes text

What the encoder returns stays where the model runs, and so do the arrays of the catalog: the trie
and, for a model that reads whole items, their vectors. Only prompts and answers travel. On a CPU
nothing is copied.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import Mask
from core.errors import BundleError
from core.manifest import Precision
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.arrays import PAST, Leaves, Prompts, TextInputs
from services.generator.decoding.providers import Compute
from services.generator.decoding.trie import PrefixTree, Trie

_OF_THE_TRIE: Final = ("trie_token", "trie_child_start", "trie_widths")

_PRESENT: Final = "present_"

Value = Any
"""An `ort.OrtValue`: an array on the device."""


def graph_file(name: str, precision: Precision) -> str:
    """The bundle's file of a graph: `encode`, `generate`, `rerank` or `text`."""
    return f"{name}.{precision}.onnx"


def weights_file(precision: Precision) -> str:
    """The bundle's file of the weights that the graphs of a precision share."""
    return f"generator.{precision}.weights"


class Graphs:
    """The sessions; any number of threads may use them at once."""

    def __init__(self, sessions: Mapping[str, ort.InferenceSession], compute: Compute) -> None:
        self._sessions = sessions
        self._device = compute.device
        self._encoded: Final = [output.name for output in sessions["encode"].get_outputs()]
        self._read_by_encode: Final = {value.name for value in sessions["encode"].get_inputs()}
        self._found: Final = [output.name for output in sessions["generate"].get_outputs()]
        taken = {value.name for value in sessions["generate"].get_inputs()}
        self._several_lists: Final = "results" in taken
        """Whether a search takes several lists; bundles of before there were any lack that."""
        self._catalog: tuple[CodedCatalog, dict[str, Value]] | None = None
        self.text_inputs: Final = TextInputs.of(sessions["text"]) if "text" in sessions else None
        """None for a model that writes no text."""

    @classmethod
    def load(
        cls, bundle: Bundle, precision: Precision, compute: Compute, expected: Mapping[str, str]
    ) -> "Graphs":
        """Loads the graphs of one precision.

        Args:
            bundle: that holds them.
            precision: one of those that the manifest names.
            compute: where they run.
            expected: what the graphs must say about themselves.

        Raises:
            BundleError: they cannot be loaded, or come from another export.
        """
        writes = ("text",) if bundle.manifest.generator.text else ()
        sessions = {
            name: _session(bundle, graph_file(name, precision), compute, expected)
            for name in ("encode", "generate", "rerank", *writes)
        }
        return cls(sessions, compute)

    def encode(self, prompts: Prompts, catalog: CodedCatalog) -> dict[str, Value]:
        """What both ways of decoding need to know about the prompts, and about the catalog."""
        return self.encode_over(prompts, self._uploaded(catalog))

    def encode_over(self, prompts: Prompts, arrays: Mapping[str, Value]) -> dict[str, Value]:
        """What both ways of decoding need to know about the prompts, over any trie.

        Args:
            prompts: what is asked.
            arrays: what `trie_arrays` returns, in memory or on the device.
        """
        feeds: dict[str, Value] = {**prompts.to_dict(), "seen": prompts.seen, **arrays}
        taken = {name: value for name, value in feeds.items() if name in self._read_by_encode}
        values = self._run("encode", taken, self._encoded, self._device)
        return {
            **dict(zip(self._encoded, values, strict=True)),
            **{name: arrays[name] for name in _OF_THE_TRIE},
            "attention_mask": prompts.attention_mask,
        }

    def generate(
        self,
        encoded: Mapping[str, Value],
        alive: Sequence[Sequence[Mask]],
        beams: int,
        results: int,
    ) -> Leaves:
        """Searches the trie.

        Args:
            encoded: what `encode` returned.
            alive: the masks of nodes of each query's lists, of which each has as many; equal
                objects are passed on once.
            beams: of every list.
            results: how many leaves a list finds at most.
        """
        if not self._several_lists:
            return self._one_by_one(encoded, alive, beams)
        found = self._search(encoded, alive, beams, results)
        return Leaves(*(value.numpy() for value in found))

    def _one_by_one(
        self, encoded: Mapping[str, Value], alive: Sequence[Sequence[Mask]], beams: int
    ) -> Leaves:
        """Searches by a graph of before there were several lists."""
        runs = [self._search(encoded, masks, beams) for masks in zip(*alive, strict=True)]
        nodes, scores = zip(*([value.numpy() for value in run] for run in runs), strict=True)
        return Leaves(np.stack(nodes, 1), np.stack(scores, 1))

    def _search(
        self,
        encoded: Mapping[str, Value],
        alive: Sequence[Any],
        beams: int,
        results: int | None = None,
    ) -> list[Value]:
        """Runs the search with masks, in whatever order of queries and lists the graph has them."""
        listed = alive if results is None else [mask for masks in alive for mask in masks]
        distinct = {id(mask): mask for mask in listed}
        row = {key: i for i, key in enumerate(distinct)}
        rows = np.array([row[id(mask)] for mask in listed], dtype=np.int64)
        feeds = {
            **encoded,
            "alive": np.stack(list(distinct.values())),
            "alive_row": rows if results is None else rows.reshape(len(alive), -1),
            "beams": np.array([beams], dtype=np.int64),
        }
        if results is not None:
            feeds["results"] = np.array([results], dtype=np.int64)
        return self._run("generate", feeds, self._found, "cpu")

    def rerank(
        self, encoded: Mapping[str, Value], trees: Sequence[PrefixTree]
    ) -> NDArray[np.float32]:
        """The scores of each query's items; [queries, most items], a row's end without meaning."""
        (score,) = self._run("rerank", {**encoded, **_stack(trees)}, ["score"], "cpu")
        scores: NDArray[np.float32] = score.numpy()
        return scores

    def text(self, feeds: Mapping[str, Value]) -> tuple[NDArray[np.float32], dict[str, Value]]:
        """One step of some texts.

        Args:
            feeds: by `text_inputs`, and `token` and `written`, int64 [texts].

        Returns:
            The logits of the next token of each, [texts, vocabulary]; and the next `past`.
        """
        kept = [] if self.text_inputs is None else list(self.text_inputs.past)
        presents = [_PRESENT + name.removeprefix(PAST) for name in kept]
        values = self._run("text", feeds, presents, self._device, also=["logits"])
        logits: NDArray[np.float32] = values.pop().numpy()
        return logits, dict(zip(kept, values, strict=True))

    def _uploaded(self, catalog: CodedCatalog) -> dict[str, Value]:
        """The catalog's arrays on the device, which stay there until another version comes."""
        known = self._catalog
        if known is None or known[0] is not catalog:
            arrays = {
                name: ort.OrtValue.ortvalue_from_numpy(array, self._device)
                for name, array in trie_arrays(catalog.trie, catalog.vectors).items()
            }
            known = (catalog, arrays)
            self._catalog = known
        return known[1]

    def _run(
        self,
        graph: str,
        feeds: Mapping[str, Value],
        outputs: Sequence[str],
        device: str,
        also: Sequence[str] = (),
    ) -> list[Value]:
        """The outputs on a device, and behind them others on the CPU."""
        session = self._sessions[graph]
        binding = session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, device)
        for name in also:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        values: list[Value] = binding.get_outputs()
        return values


def _session(
    bundle: Bundle, name: str, compute: Compute, expected: Mapping[str, str]
) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(
            str(bundle.file(name)), compute.session_options(), providers=compute.with_options()
        )
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"{name} cannot be loaded; it and its weights may come from different exports: {error}"
        ) from error
    found = session.get_modelmeta().custom_metadata_map
    for key, value in expected.items():
        if found.get(key) != value:
            raise BundleError(
                f"{name} was exported for {key} {found.get(key)}, but the bundle has {value}: "
                "graph, tokenizer and manifest come from different exports"
            )
    return session


def trie_arrays(trie: Trie, vectors: NDArray[np.float32] | None) -> dict[str, NDArray[Any]]:
    """What the graphs take of a trie, by the names of their inputs.

    Args:
        trie: of items, or of whatever else has codes.
        vectors: [positions, d_model] of what prompts and leaves refer to, where the model reads
            whole items.
    """
    arrays: dict[str, NDArray[Any]] = {
        "trie_token": trie.token,
        "trie_child_start": trie.child_start,
        "trie_widths": trie.widths.astype(np.int64),
    }
    if vectors is not None:
        first, last = trie.inner_leaves
        # A trie without items still has one way down, whose leaf is nobody's: any item will do.
        leaf_item = trie.leaf_item if trie.items else np.zeros(1, np.int32)
        arrays |= {"leaf_item": leaf_item, "first_leaf": first, "last_leaf": last}
        arrays["item_vectors"] = vectors
    return arrays


def _stack(trees: Sequence[PrefixTree]) -> dict[str, NDArray[Any]]:
    """Pads prefix trees to one batch.

    Rows beyond a tree's own see nothing and are read by no one; items beyond its own follow row 0.
    """
    batch, levels = len(trees), trees[0].path.shape[1]
    rows = max(len(tree.token) for tree in trees)
    items = max(len(tree.path) for tree in trees)
    token = np.zeros((batch, rows), np.int64)
    depth = np.zeros((batch, rows), np.int64)
    node = np.zeros((batch, rows), np.int64)
    sees = np.zeros((batch, rows, rows), np.bool_)
    path = np.zeros((batch, items, levels), np.int64)
    child = np.full((batch, items, levels), -1, np.int64)
    for i, tree in enumerate(trees):
        own, asked = len(tree.token), len(tree.path)
        token[i, :own] = tree.token
        depth[i, :own] = tree.depth
        node[i, :own] = tree.node
        sees[i, :own, :own] = tree.sees
        path[i, :asked] = tree.path
        child[i, :asked] = tree.child
    return {
        "token": token, "depth": depth, "node": node, "sees": sees, "path": path, "child": child
    }  # fmt: skip
