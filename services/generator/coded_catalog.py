"""The catalog as the generator sees it: the items, the code of each, and the trie of the codes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.catalog import Catalog, CatalogItem, Change, Delete, ItemArray, Upsert
from runtime.errors import BundleError, InvalidRequest
from runtime.persistent import PersistentSequence
from services.generator.codes import Spelling
from services.generator.trie import Trie

T5_VOCABULARY: Final = 32_128
T5_EOS: Final = 1
T5_PAD: Final = 0

Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class CodedUpsert:
    """Adds an item with its code, or replaces the one that has its identifier."""

    item: CatalogItem
    code_text: str
    """The code as a prompt shows it."""
    tokens: Sequence[int]
    """The code as the decoder emits it."""

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


CodedChange = CodedUpsert | Delete


@dataclass(frozen=True)
class CodedCatalog:
    """One version of the catalog, immutable; a request keeps the one that it started with.

    A position means the same item and the same code in every version of a process.
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
    spelling: Spelling
    """What a new code must be like."""

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
    ) -> "CodedCatalog":
        """The first version: a bundle's catalog.

        Args:
            catalog: the items.
            code_texts: the code of each, as prompts show it.
            codes: the same as token ids, [positions, levels].
            vocabulary: how many tokens the model knows.
            eos: the end-of-sequence token.
            pad: the pad token.

        Raises:
            BundleError: they are not of the same items, or two items have the same code.
        """
        if not len(catalog) == len(code_texts) == len(codes):
            raise BundleError(
                f"the catalog has {len(catalog)} items, but there are {len(code_texts)} codes as "
                f"text and {len(codes)} as tokens"
            )
        trie = Trie.build(codes, catalog.live)
        spelling = Spelling.of(codes, vocabulary=vocabulary, eos=eos, pad=pad)
        return cls(0, catalog, PersistentSequence(code_texts), codes, trie, spelling)

    def apply(self, changes: Iterable[CodedChange]) -> "CodedCatalog":
        """Makes the next version. Blocking: some 50 ms for 1,000 changes of a million items.

        The last change of each item counts. A code that a change frees can be given to another
        item by the same changes, and an item may keep its code. Deleting what is not there changes
        nothing.

        Raises:
            InvalidRequest: reason CODE_TAKEN, for a code that two items would have, or INVALID_CODE
                (see `Spelling.row`). The version stays as it was, and so does the catalog.
        """
        last = {change.item_id: change for change in changes}
        upserts = [change for change in last.values() if isinstance(change, CodedUpsert)]
        written = [self.spelling.row(change.code_text, change.tokens) for change in upserts]
        rows = np.array(written, np.int32).reshape(-1, self.spelling.levels)
        catalog = self.catalog.apply(self._plain(last.values(), rows))
        old = len(self.catalog)
        moved = catalog.lookup(change.item_id for change in upserts)[0] >= old
        added = np.arange(old, len(catalog), dtype=np.int32)
        gone = np.flatnonzero(self.catalog.live & ~catalog.live[:old]).astype(np.int32)
        self._refuse_taken(catalog, rows[moved], gone)
        texts = [change.code_text for change, new in zip(upserts, moved, strict=True) if new]
        codes, trie = self.codes, self.trie
        if len(added) or len(gone):
            codes = np.concatenate([codes, rows[moved]])
            trie = trie.replaced(codes, gone, added)
        return CodedCatalog(
            self.version + 1, catalog, self.code_texts.extended(texts), codes, trie, self.spelling
        )

    def _plain(self, changes: Iterable[CodedChange], rows: Int32) -> Iterable[Change]:
        """The changes without codes. What gets another code moves, even if the item is the same."""
        row = iter(rows)
        for change in changes:
            if isinstance(change, Delete):
                yield change
                continue
            if not self._has(change, next(row)):
                yield Delete(change.item_id)
            yield Upsert(change.item)

    def _has(self, change: CodedUpsert, row: Int32) -> bool:
        """Whether the item has this very code."""
        position, _ = self.catalog.lookup([change.item_id])
        return len(position) > 0 and (
            self.code_texts[position[0]] == change.code_text
            and np.array_equal(self.codes[position[0]], row)
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
                raise InvalidRequest(
                    f"the code of item {item_id!r} is that of item {owner!r}; give it another",
                    reason="CODE_TAKEN",
                    item_id=item_id,
                    owner=owner,
                )
