"""Pack several texts into one row, each unable to see the others.

    batch = packed_batch(texts, capacity=256)
    model(**batch).loss

    >>> packed_batch([([5, 6, 7], [5, 6, 7]), ([8, 9], [8, 9])], capacity=6)["position_ids"]
    tensor([[0, 1, 2, 0, 1]])

Three things keep a text what it was alone. Positions restart at 0 (with rotary embeddings they could also keep
counting: only distances matter). A mask of blocks lets a token see its own text only, up to itself. The first token of
a text is not a target, or it would be predicted from the end of its neighbour. Loss and gradients are then those of the
texts one at a time, which the tests check; without the mask they are not.

The mask is [rows, 1, length, length], additive: 0 where a token may look, the dtype's lowest number elsewhere. It works
with any transformers model, eager or SDPA. What it costs: it is quadratic in the length, and it rules out
FlashAttention, which takes the lengths themselves (`cu_seqlens`) and needs a GPU. transformers (5.x) finds the blocks
by itself where positions restart, if it is given no mask at all. Left out: FlashAttention.

Source: Krell et al., Efficient sequence packing without cross-contamination, 2021 (arXiv:2107.02027), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from coursekit.training import IGNORED

Text = tuple[list[int], list[int]]  # (input ids, labels), as classroom.models.finetune.encode_pair makes them


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices: the longest text first, each into the first row that has room.

    At most 11/9 of the fewest rows possible, plus 6/9 of a row (Dosa 2007). A tree over the rows finds the first one
    with room in O(log n) steps.

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
    """As many empty rows as there are texts, in a binary tree: a node holds the most room of any row below it."""

    def __init__(self, count: int, capacity: int):
        self.leaves = 1 << max(count - 1, 0).bit_length()  # the next power of two
        self.most = [capacity] * (2 * self.leaves)

    def take(self, length: int) -> int:
        """The first row with room for `length`; that room is then taken."""
        node = 1  # the root; the children of a node are 2 node and 2 node + 1
        while node < self.leaves:
            node = 2 * node if self.most[2 * node] >= length else 2 * node + 1
        row = node - self.leaves
        self.most[node] -= length
        while node := node // 2:
            self.most[node] = max(self.most[2 * node], self.most[2 * node + 1])
        return row


def split(text: Text, capacity: int) -> list[Text]:
    """Cut a long text into pieces of at most `capacity` tokens. A piece no longer sees what came before it."""
    ids, labels = text
    return [(ids[k : k + capacity], labels[k : k + capacity]) for k in range(0, len(ids), capacity)]


def packed_batch(
    texts: Sequence[Text], capacity: int, *, pad_id: int = 0, too_long: str = "refuse", dtype=None
) -> dict:
    """All texts in as few rows as first fit decreasing finds, ready for model(**batch); tensors as in collate_packed.

    too_long  "refuse": a text longer than `capacity` raises ValueError; "split": it is cut (see `split`)
    dtype     of the mask: take that of the model's weights; default torch.float32
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

    tokens = [[token for ids, _ in row for token in ids] for row in rows]
    positions = [[position for ids, _ in row for position in range(len(ids))] for row in rows]
    targets = [[label for _, labels in row for label in (IGNORED, *labels[1:])] for row in rows]
    segments = [[number for number, (ids, _) in enumerate(row, start=1) for _ in ids] for row in rows]
    width = max(len(row) for row in tokens)

    def padded(lists: list[list[int]], fill: int):
        return torch.tensor([cells + [fill] * (width - len(cells)) for cells in lists])

    return {
        "input_ids": padded(tokens, pad_id),
        "position_ids": padded(positions, 0),
        "labels": padded(targets, IGNORED),
        "attention_mask": block_causal_mask(padded(segments, 0), dtype),
    }


def block_causal_mask(segments, dtype=None):  # int64 [rows, length] -> dtype [rows, 1, length, length]
    """0 where the query (third axis) may see the key (fourth), else the lowest number of the dtype.

    segments  one number per text; padding is a text of its own, 0, so that every query sees something: a softmax over
              nothing is NaN
    """
    import torch

    dtype = dtype or torch.float32
    length = segments.shape[1]
    same_text = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    # Not -inf: a whole row of it would be NaN, and some kernels multiply it by 0.
    barred = torch.zeros_like(same_text, dtype=dtype).masked_fill(
        ~(same_text & causal), torch.finfo(dtype).min
    )
    return barred[:, None]  # one mask for all heads


def _check(lengths: Sequence[int], capacity: int) -> None:
    for index, length in enumerate(lengths):
        if not 0 < length <= capacity:
            raise ValueError(
                f"text {index} has {length} tokens; a row holds 1 to {capacity}. Leave it out, take longer rows, or "
                'cut it with too_long="split".'
            )
