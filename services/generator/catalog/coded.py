"""The catalog as the generator sees it: items, the code of each, and the trie of the codes.

A model that reads whole items also knows each by a vector. That of an item which comes while the
catalog is served is made of the vector of its text, by a linear map that the bundle holds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.catalog import Catalog, CatalogItem, Change, Delete, ItemArray, Update, Upsert
from core.codes import CodeFormat
from core.errors import BundleError, InvalidArgument
from core.persistent import PersistentSequence
from services.generator.decoding.trie import Trie

T5_VOCABULARY: Final = 32_128
T5_EOS: Final = 1
T5_PAD: Final = 0

ITEM_VECTORS: Final = "generator_items.npy"
"""The bundle's file of the items' vectors, float32 [items, d_model], of unit norm."""
ITEM_PROJECTION: Final = "generator_projection.npy"
"""The bundle's file of the map from text vectors to item vectors, float32 [content dimension + 1,
d_model]; the last row is the intercept."""

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class CodedUpsert:
    """Adds an item with its code, or replaces the one that has its identifier."""

    item: CatalogItem
    code_text: str
    """The code as a prompt shows it."""
    tokens: Sequence[int]
    """The code as the decoder emits it."""
    content: Float32 | None = field(default=None, compare=False)
    """The vector of its text, [content dimension]."""

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


CodedChange = CodedUpsert | Delete


@dataclass(frozen=True)
class CodedCatalog:
    """One version of the catalog, immutable; a request keeps the one that it started with.

    From one version to the next a position means the same item, the same code and the same vector,
    except where there have come to be many tombstones: then it is `compacted`.
    """

    version: int
    """0 is the bundle's own, and each batch of changes adds one."""
    catalog: Catalog
    code_texts: PersistentSequence[str]
    """By position, as prompts show them."""
    codes: Int32
    """[positions, levels] token ids."""
    trie: Trie
    """Of the live items only."""
    code_format: CodeFormat
    """What a new code must be like."""
    vectors: Float32 | None = None
    """[positions, d_model] of the items, of unit norm; None where the model reads tokens."""
    projection: Float32 | None = None
    """Makes a vector of an item's text; see `ITEM_PROJECTION`."""
    sequence: int = 0
    """Of the last change of the followed catalog that is in it; 0 for the bundle's own items."""

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        code_texts: Sequence[str],
        codes: Int32,
        *,
        vocabulary: int = T5_VOCABULARY,
        eos: int = T5_EOS,
        pad: int = T5_PAD,
        vectors: Float32 | None = None,
        projection: Float32 | None = None,
    ) -> "CodedCatalog":
        """The first version: a bundle's catalog.

        Args:
            catalog: the items.
            code_texts: the code of each, as prompts show it.
            codes: the same as token ids, [positions, levels].
            vocabulary: how many tokens the model knows.
            eos: the end-of-sequence token.
            pad: the pad token.
            vectors: of the items, [positions, d_model], where the model reads whole items.
            projection: makes such a vector of an item's text.

        Raises:
            BundleError: they are not of the same items, or two items have the same code.
        """
        if not len(catalog) == len(code_texts) == len(codes):
            raise BundleError(
                f"the catalog has {len(catalog)} items, but there are {len(code_texts)} codes as "
                f"text and {len(codes)} as tokens"
            )
        if vectors is not None and len(vectors) != len(codes):
            raise BundleError(f"{ITEM_VECTORS} has {len(vectors)} rows for {len(codes)} items")
        trie = Trie.build(codes, catalog.live)
        code_format = CodeFormat.of(codes, vocabulary=vocabulary, eos=eos, pad=pad)
        texts = PersistentSequence(code_texts)
        return cls(0, catalog, texts, codes, trie, code_format, vectors, projection)

    def apply(self, changes: Iterable[CodedChange]) -> "CodedCatalog":
        """Makes the next version. Blocking: some 50 ms for 1,000 changes of a million items.

        The last change of each item counts. A code that a change frees can be given to another
        item by the same changes, and an item may keep its code. Deleting what is not there changes
        nothing.

        Raises:
            InvalidArgument: reason CODE_TAKEN, for a code that two items would have, INVALID_CODE
                (see `CodeFormat.row`), or INVALID_VECTOR. The version stays as it was, and so does
                the catalog.
        """
        last = {change.item_id: change for change in changes}
        upserts = [change for change in last.values() if isinstance(change, CodedUpsert)]
        written = [self.code_format.row(change.code_text, change.tokens) for change in upserts]
        rows = np.array(written, np.int32).reshape(-1, self.code_format.levels)
        placed = self._placed(upserts)
        catalog = self.catalog.apply(self._plain(last.values(), rows, placed))
        old = len(self.catalog)
        moved = catalog.lookup(change.item_id for change in upserts)[0] >= old
        added = np.arange(old, len(catalog), dtype=np.int32)
        gone = np.flatnonzero(self.catalog.live & ~catalog.live[:old]).astype(np.int32)
        self._refuse_taken(catalog, rows[moved], gone)
        texts = [change.code_text for change, new in zip(upserts, moved, strict=True) if new]
        codes, trie, vectors = self.codes, self.trie, self.vectors
        if vectors is not None and len(added):
            vectors = np.concatenate([vectors, placed[moved]])
        if len(added) or len(gone):
            codes = np.concatenate([codes, rows[moved]])
            trie = trie.replaced(codes, gone, added)
        following = replace(
            self,
            version=self.version + 1,
            catalog=catalog,
            code_texts=self.code_texts.extended(texts),
            codes=codes,
            trie=trie,
            vectors=vectors,
        )
        return following._compacted() if catalog.sparse else following

    def _compacted(self) -> "CodedCatalog":
        """The same version without the tombstones of items that were added to the bundle's."""
        catalog, kept = self.catalog.compacted()
        added = kept[catalog.base :].tolist()
        texts = [self.code_texts[position] for position in added]
        return replace(
            self,
            catalog=catalog,
            code_texts=self.code_texts.truncated(catalog.base).extended(texts),
            codes=self.codes[kept],
            trie=self.trie.renumbered(kept),
            vectors=None if self.vectors is None else self.vectors[kept],
        )

    def check(self, change: CodedUpsert) -> None:
        """Checks what can be said about a change without the others.

        Raises:
            InvalidArgument: reason INVALID_CODE or INVALID_VECTOR, as `apply` raises them.
        """
        self.code_format.row(change.code_text, change.tokens)
        self._placed([change])

    def _placed(self, upserts: Sequence[CodedUpsert]) -> Float32:
        """The vectors of items, made of those of their texts. Shape [upserts, d_model].

        An item of the bundle whose text is what it was keeps the vector that was trained.
        """
        if self.vectors is None or self.projection is None:
            return np.empty((len(upserts), 0), np.float32)
        placed = np.empty((len(upserts), self.vectors.shape[1]), np.float32)
        places = self.catalog.places(change.item_id for change in upserts).tolist()
        for row, change, at in zip(placed, upserts, places, strict=True):
            same = at >= 0 and self.catalog.items[at].text == change.item.text
            row[:] = self.vectors[at] if same else self._projected(change)
        return placed

    def _projected(self, change: CodedUpsert) -> Float32:
        if self.projection is None or change.content is None:
            raise self._invalid_vector(change, "has no vector of its text")
        if change.content.shape != (len(self.projection) - 1,):
            wanted = len(self.projection) - 1
            raise self._invalid_vector(change, f"needs a text vector of {wanted} numbers")
        vector = change.content @ self.projection[:-1] + self.projection[-1]
        unit: Float32 = vector / max(float(np.linalg.norm(vector)), float(np.finfo("f4").tiny))
        return unit

    @staticmethod
    def _invalid_vector(change: CodedUpsert, problem: str) -> InvalidArgument:
        message = f"item {change.item_id!r} {problem}, which the model reads it by"
        return InvalidArgument(message, reason="INVALID_VECTOR", item_id=change.item_id)

    def _plain(
        self, changes: Iterable[CodedChange], rows: Int32, placed: Float32
    ) -> Iterable[Change]:
        """The changes without codes. What is known to the model by another code or vector moves,
        even if the item is the same; whatever else is said of an item, it stays."""
        known = iter(zip(rows, placed, strict=True))
        for change in changes:
            if isinstance(change, Delete):
                yield change
                continue
            if self._has(change, *next(known)):
                yield Update(change.item)
            else:
                yield Delete(change.item_id)
                yield Upsert(change.item)

    def _has(self, change: CodedUpsert, row: Int32, vector: Float32) -> bool:
        """Whether the item has this very code, and this vector."""
        (at,) = self.catalog.places([change.item_id]).tolist()
        return at >= 0 and (
            self.code_texts[at] == change.code_text
            and np.array_equal(self.codes[at], row)
            and (self.vectors is None or np.array_equal(self.vectors[at], vector))
        )

    def _refuse_taken(self, catalog: Catalog, rows: Int32, gone: ItemArray) -> None:
        """Checks that no two of the next catalog's items have the same code."""
        leaf, found = self.trie.find(rows)
        holders = self.trie.leaf_item[leaf[found]].tolist()
        freed = set(gone.tolist())
        taken = {
            tuple(row): holder
            for row, holder in zip(rows[found].tolist(), holders, strict=True)
            if holder not in freed
        }
        for position, row in enumerate(map(tuple, rows.tolist()), start=len(self.catalog)):
            other = taken.setdefault(row, position)
            if other != position:
                item_id, owner = catalog.ids([position, other])
                raise InvalidArgument(
                    f"the code of item {item_id!r} is that of item {owner!r}; give it another",
                    reason="CODE_TAKEN",
                    item_id=item_id,
                    owner=owner,
                )
