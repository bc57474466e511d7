"""P5 over whole items: a T5 that reads one position an item, and writes an item's code.

What differs from a T5 that reads codes token by token, and why:

- **An item is one position**, as P5's whole-word embeddings wanted: its row is a vector that starts
  from the embedding of its text. A prompt of 100 items is 100 positions long, not 200 or 400.
- **The encoder is causal** and the history stands last in the prompt, so that one pass over a
  history learns every next item of it.
- **The decoder starts from the last state** of the encoder, added to its start token, beside
  attending to all of them.
- **A token's logit begins with the items below it.** The last state, by the inner product with the
  item vectors, says how likely each item is; the logarithm of the summed likelihood of the items
  below a node of the trie is that node's *mass*, and what the decoder says about the token is added
  to it. So a code's probability is that of a softmax over all items, corrected token by token by a
  decoder that knows the tokens before; with nothing learned by the decoder the two are equal. On
  sparse data a softmax over tokens alone learns far less than one over items (docs/log.md). Others
  join the two by merging lists (LIGER, https://arxiv.org/abs/2411.18814); here they are one score.
- **One learned number** is added to the likelihood of what the history holds already: it says
  whether people come back for what they had.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import T5ForConditionalGeneration

from offline.generator.items.batches import IGNORE, ItemBatch
from offline.generator.items.code_tree import CodeTree
from offline.generator.items.group_sums import group_sums
from offline.generator.items.t5_layers import MASKED, decode_rows, encode_causally
from offline.training.blocks import block_rows, recomputed, weighted_mean

INITIAL_DEVIATION: Final = 0.05
"""Of all weights; T5's own embeddings start at 1, which drowns everything else at first."""
SEEN_SCALE: Final = 20.0
"""What the learned number for seen items is multiplied by, so that it learns as fast as it must."""
ITEM_WEIGHTS: Final = "items.safetensors"


class ItemT5(nn.Module):
    """The model.

    Args:
        t5: its encoder and decoder; tied embeddings, feed-forward layers that are not gated.
        item_vectors: float32 [items, d_model], where the items' vectors start from.
        codes: [items, levels] token ids.
        item_share: how much the loss of the items' own softmax, without what the decoder says,
            counts beside that of the codes.
    """

    rating_vectors: nn.Parameter | None
    """[values, d_model]; None where it does not rate."""

    def __init__(
        self,
        t5: T5ForConditionalGeneration,
        item_vectors: NDArray[np.float32],
        codes: NDArray[np.int32],
        item_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.item_share = item_share
        t5.config.scale_decoder_outputs = False  # the head's weights learn their scale themselves
        self.t5 = t5
        self.tree = CodeTree.of(codes)
        self.item_vectors = nn.Parameter(torch.from_numpy(item_vectors.copy()))
        self.query = nn.Linear(item_vectors.shape[1], item_vectors.shape[1])
        self.seen = nn.Parameter(torch.zeros(()))
        self.rating_tokens = torch.empty(0, dtype=torch.int64)
        self.register_parameter("rating_vectors", None)
        initialize(self)

    def add_ratings(self, tokens: Sequence[int]) -> None:
        """Makes ratings something that it can be asked for; see `offline.generator.items.ratings`.

        Args:
            tokens: the token of each value, lowest first.
        """
        self.rating_tokens = torch.tensor(tokens)
        vectors = torch.empty(len(tokens), self.item_vectors.shape[1])
        self.rating_vectors = nn.Parameter(nn.init.normal_(vectors, std=INITIAL_DEVIATION))

    @property
    def words(self) -> int:
        """How many tokens texts are written in: those before the ones of users and of codes.

        A user's token starts as a vector of items (`start_users`), longer than any word's: among
        the words it would drown them. Set by whoever knows the vocabulary, kept in the T5's
        configuration; without that, all that stand before the codes.
        """
        codes = int(min(tokens.min() for tokens in self.tree.vocabulary))
        return int(getattr(self.t5.config, "words", codes))

    def save(self, directory: Path) -> None:
        """Writes the model: the T5 as `transformers` does, and the rest beside it."""
        self.t5.save_pretrained(directory)
        rest: dict[str, Tensor] = {"item_vectors": self.item_vectors, "seen": self.seen}
        rest |= {f"query.{name}": value for name, value in self.query.named_parameters()}
        if self.rating_vectors is not None:
            rest |= {"rating_vectors": self.rating_vectors, "rating_tokens": self.rating_tokens}
        tensors = {name: value.detach().cpu().contiguous() for name, value in rest.items()}
        save_file(tensors, directory / ITEM_WEIGHTS)

    @classmethod
    def load(cls, directory: Path, codes: NDArray[np.int32]) -> "ItemT5":
        """Reads what `save` wrote, for evaluation."""
        tensors = load_file(directory / ITEM_WEIGHTS)
        t5 = T5ForConditionalGeneration.from_pretrained(directory)
        kept = {name: value.clone() for name, value in t5.state_dict().items()}
        model = cls(t5, tensors["item_vectors"].numpy(), codes)  # draws weights anew
        model.t5.load_state_dict(kept)
        if "rating_tokens" in tensors:
            model.add_ratings(tensors.pop("rating_tokens").tolist())
        model.load_state_dict(tensors, strict=False)
        return model.eval()

    def start_users(self, tokens: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Lets the tokens of users start as if they were items with these vectors.

        Args:
            tokens: the token of each user.
            vectors: float32 [users, d_model], of unit norm.
        """
        rows = torch.from_numpy(vectors) * math.sqrt(vectors.shape[1])
        with torch.no_grad():
            self.t5.shared.weight[list(tokens)] = rows

    def table(self) -> Tensor:
        """The items' vectors, float32 [items, d_model], of unit norm."""
        return F.normalize(self.item_vectors, dim=-1)

    def loss(self, batch: ItemBatch) -> Tensor:
        """The mean over targets of the negative log-probability of their codes, by weight."""
        batch = batch.to(self.item_vectors.device)
        if self.tree.tokens.device != self.item_vectors.device:
            self.tree = self.tree.to(self.item_vectors.device)
        table = self.table()
        memory = self.encode(batch.words, batch.history, table)
        states = memory[:, batch.words.shape[1] - 1 :]
        known = batch.targets != IGNORE
        hidden = self._read_targets(batch, memory, states)[known]
        queries, targets = self.query(states)[known], batch.targets[known]
        seen = self._seen_cells(batch.history, known)
        places = torch.arange(len(targets), device=targets.device)
        block = block_rows(self.tree.grid.numel())
        losses = [
            recomputed(
                self._code_losses,
                table,
                queries[part],
                hidden[part],
                targets[part],
                *_rows_of(part, *seen),
                again=len(targets) > block,
            )
            for part in torch.split(places, block)
        ]
        return weighted_mean(torch.cat(losses), batch.weights, known)

    def encode(self, words: Tensor, history: Tensor, table: Tensor) -> Tensor:
        """The encoder's states, float32 [batch, words + items, d_model].

        Args:
            words: int64 [batch, words] token ids.
            history: int64 [batch, items] items, oldest first; what follows an item, such as
                padding, has no part in its state.
            table: what `table` returned.
        """
        items = F.embedding(history, table) * math.sqrt(table.shape[1])
        return encode_causally(self.t5, torch.cat([self.t5.shared(words), items], dim=1))

    def _read_targets(self, batch: ItemBatch, memory: Tensor, states: Tensor) -> Tensor:
        """The decoder's states before each token of the target after each position.

        float32 [batch, items + 1, levels, d_model].
        """
        tokens = self.tree.tokens[batch.targets.clamp(min=0)][..., :-1]
        first = batch.words.shape[1]
        places = torch.arange(memory.shape[1], device=memory.device)
        visible = (places[None, :] <= places[first - 1 :, None])[None]
        return self.decode(tokens, states, memory, visible)

    def decode(
        self, tokens: Tensor, states: Tensor, memory: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """The decoder's states, float32 [batch, sequences, levels, d_model].

        Args:
            tokens: int64 [batch, sequences, levels - 1] the codes without their last tokens.
            states: float32 [batch, sequences, d_model] what each sequence starts from.
            memory: what `encode` returned.
            visible: bool [batch or 1, sequences, positions] of the memory; None for all of it.
        """
        start = self.t5.shared.weight[self.t5.config.decoder_start_token_id] + states
        rows = torch.cat([start[:, :, None], self.t5.shared(tokens)], dim=2)
        return decode_rows(self.t5, rows, memory, visible)

    def token_logits(self, hidden: Tensor, level: int) -> Tensor:
        """What the decoder says about each token of a level, float32 [..., tokens]."""
        return F.linear(hidden, self.t5.shared.weight[self.tree.vocabulary[level]])

    def _seen_cells(self, history: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Which cells of the grid each target's history holds: targets and cells, int64 [pairs].

        Each cell once a target, however often the history has the item.
        """
        earlier = (history[:, :, None] == history[:, None, :]).tril(-1).any(dim=2)
        user, place = known.nonzero(as_tuple=True)
        before = torch.arange(history.shape[1], device=history.device) < place[:, None]
        target, position = (before & ~earlier[user]).nonzero(as_tuple=True)
        return target, self.tree.cell[history[user[target], position]]

    def _code_losses(
        self,
        table: Tensor,
        queries: Tensor,
        hidden: Tensor,
        targets: Tensor,
        seen_by: Tensor,
        seen_cell: Tensor,
    ) -> Tensor:
        """The negative log-probabilities of the targets' codes, float32 [targets]."""
        tree = self.tree
        groups, width = tree.grid.shape
        absent = MASKED * tree.absent.flatten().float()
        scores = torch.addmm(absent, queries, F.embedding(tree.grid.flatten(), table).T)
        again = (SEEN_SCALE * self.seen).to(scores.dtype).expand(len(seen_by))
        scores.index_put_((seen_by, seen_cell), again, accumulate=True)
        group = tree.columns[targets, 0]
        masses, inside = group_sums(scores.view(-1, groups, width), group)
        logits = masses + self.token_logits(hidden[:, 0], 0)
        loss = F.cross_entropy(logits, group, reduction="none")
        below = tree.columns[tree.grid[group]]  # [targets, width, levels]
        own = tree.columns[targets][:, None]
        if self.item_share:
            itself = (tree.grid[group] == targets[:, None]) & ~tree.absent[group]
            of_items = masses.logsumexp(dim=1) - (inside * itself).sum(dim=1)
            loss = loss + self.item_share * of_items
        for level in range(1, tree.levels):
            prefix = (below[..., :level] == own[..., :level]).all(-1) & ~tree.absent[group]
            child = prefix & (below[..., level] == own[..., level])
            said = self.token_logits(hidden[:, level], level).gather(1, below[..., level])
            total = inside + said
            loss = loss - _log_sum(total, child) + _log_sum(total, prefix)
        return loss


def initialize(model: ItemT5) -> None:
    """Draws the weights of a T5 from scratch; queries start as the encoder's states."""
    config = model.t5.config
    for name, weight in model.t5.named_parameters():
        if weight.ndim > 1:
            # T5 does not scale what queries and keys give: their product starts small instead.
            scale = config.d_kv**-0.5 if name.endswith("Attention.q.weight") else 1.0
            nn.init.normal_(weight, std=INITIAL_DEVIATION * scale)
    nn.init.eye_(model.query.weight)
    nn.init.zeros_(model.query.bias)


def _rows_of(part: Tensor, row: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of consecutive rows, which are counted from the first of them."""
    first, last = torch.searchsorted(row, part[[0, -1]] + torch.tensor([0, 1], device=row.device))
    return row[first:last] - part[0], cell[first:last]


def _log_sum(values: Tensor, chosen: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials of the chosen values of each row."""
    return values.masked_fill(~chosen, MASKED).logsumexp(dim=1)
