"""Packing: several texts in one row, each blind to the others.

    batch = packed_batch(texts, capacity=256)
    model(**batch).loss

Three things keep a text what it was alone. Positions restart at 0 (rotary ones, which only depend on distances, would
bear to run on). A mask of blocks lets a token see its own text only,
up to itself. The first token of a text is no target, or it would be predicted from the end of its neighbour. Loss and
gradients are then those of the texts one at a time (the tests hold them against it); without the mask they are not.

The mask is [rows, 1, length, length], additive: 0 where a token may look, the dtype's lowest number elsewhere. It goes
into any transformers model, eager or SDPA. It is also quadratic in the length, and with it FlashAttention is out of
reach: its own way are the lengths themselves (`cu_seqlens`), which need a GPU. transformers (5.x) finds the blocks by
itself where positions restart, if it is given no mask at all.

Source: Krell et al., Efficient sequence packing without cross-contamination, 2021 (arXiv:2107.02027), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from coursekit.training import IGNORED

Text = tuple[list[int], list[int]]  # (input ids, labels), as classroom.models.finetune.encode_pair makes them


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices: longest text first, each into the first row that has room.

    No more than 11/9 of the fewest rows possible, and 6/9 of a row (Dosa 2007). A tree of the rooms left finds the
    first row in O(log n) steps.

    >>> first_fit_decreasing([3, 6, 5, 2], capacity=8)
    [[1, 3], [2, 0]]

    Raises ValueError for a text that is empty or longer than `capacity`.
    """
    _check(lengths, capacity)
    rooms, rows = Rooms(len(lengths), capacity), [[] for _ in lengths]
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        rows[rooms.take(lengths[index])].append(index)
    return [row for row in rows if row]


class Rooms:
    """As many empty rows as there are texts, in a tree: a node holds the most room of any row below it."""

    def __init__(self, count: int, capacity: int):
        self.leaves = 1 << max(count - 1, 0).bit_length()
        self.most = [capacity] * (2 * self.leaves)

    def take(self, length: int) -> int:
        """The first row with room for `length`, which is then taken from it."""
        node = 1
        while node < self.leaves:
            node = 2 * node if self.most[2 * node] >= length else 2 * node + 1
        row = node - self.leaves
        self.most[node] -= length
        while node := node // 2:
            self.most[node] = max(self.most[2 * node], self.most[2 * node + 1])
        return row


def split(text: Text, capacity: int) -> list[Text]:
    """A long text in pieces of at most `capacity` tokens. A piece no longer sees what came before it."""
    ids, labels = text
    return [(ids[k : k + capacity], labels[k : k + capacity]) for k in range(0, len(ids), capacity)]


def packed_batch(
    texts: Sequence[Text], capacity: int, *, pad_id: int = 0, too_long: str = "refuse", dtype=None
) -> dict:
    """All texts in as few rows as first fit decreasing finds, ready for model(**batch).

    too_long  "refuse": a text longer than `capacity` raises ValueError; "split": it is cut (see `split`)
    dtype     of the mask, that of the model's weights; default torch.float32
    """
    if too_long not in ("refuse", "split"):
        raise ValueError(f'too_long must be "refuse" or "split"; got {too_long!r}.')
    if too_long == "split":
        texts = [piece for text in texts for piece in split(text, capacity)]
    rows = first_fit_decreasing([len(ids) for ids, _ in texts], capacity)
    return collate_packed([[texts[i] for i in row] for row in rows], pad_id=pad_id, dtype=dtype)


def collate_packed(rows: Sequence[Sequence[Text]], *, pad_id: int = 0, dtype=None) -> dict:
    """Rows of texts as tensors, filled up to the longest row.

    input_ids, position_ids, labels  int64 [rows, length]
    attention_mask                   dtype [rows, 1, length, length]
    """
    import torch

    width = max(sum(len(ids) for ids, _ in row) for row in rows)

    def table(cells_of, fill: int):
        lists = [[cell for n, text in enumerate(row, 1) for cell in cells_of(n, *text)] for row in rows]
        return torch.tensor([cells + [fill] * (width - len(cells)) for cells in lists])

    segments = table(lambda n, ids, _: [n] * len(ids), 0)
    return {
        "input_ids": table(lambda n, ids, _: ids, pad_id),
        "position_ids": table(lambda n, ids, _: range(len(ids)), 0),
        "labels": table(lambda n, _, labels: [IGNORED, *labels[1:]], IGNORED),
        "attention_mask": block_causal_mask(segments, dtype),
    }


def block_causal_mask(segments, dtype=None):
    """[rows, 1, length, length], 0 where the query (third axis) may see the key (fourth), else the lowest number.

    segments  int64 [rows, length], equal within a text; filler is a text of its own, 0, so that no query sees
              nothing: a softmax over nothing is NaN
    """
    import torch

    dtype, length = dtype or torch.float32, segments.shape[1]
    same_text = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    # not -inf: a whole row of it would be NaN, and some kernels multiply it by 0
    barred = torch.zeros_like(same_text, dtype=dtype).masked_fill(
        ~(same_text & causal), torch.finfo(dtype).min
    )
    return barred[:, None]


def _check(lengths: Sequence[int], capacity: int) -> None:
    for index, length in enumerate(lengths):
        if not 0 < length <= capacity:
            raise ValueError(
                f"text {index} has {length} tokens, a row holds 1 to {capacity}. Leave it out, take longer rows, or "
                'cut it with too_long="split".'
            )
