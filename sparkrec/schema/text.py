"""Texts to words, with the options of the `schema.text` block. Imports no Spark."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparkrec.bounds import Count, Share, check_bounds
from sparkrec.errors import SchemaError

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# What separates words: anything but letters, marks (accents of their own) and digits.
_BETWEEN = r"[^\pL\pM\pN]+"


@dataclass(frozen=True)
class Text:
    """How `tokens(column)` turns a text into words.

    Words are runs of letters and digits of any alphabet, in lower case. A word counts once in a
    text. Words that are in too few or too many of train's items are left out, and the others are
    weighted by how rare they are (`idf`).

    Attributes
    ----------
    bigrams
        Whether pairs of neighbouring words are words, too.
    min_items
        Fewest items of train that a word must be in.
    max_share
        Largest share of train's items that a word may be in.
    """

    bigrams: bool = False
    min_items: Count = 2
    max_share: Share = 0.5

    def __post_init__(self) -> None:
        check_bounds(self)

    def frequent(self, items_with: Ints, items: int) -> Mask:
        """Which words are kept, by the number of items that they are in, of all `items`."""
        return (items_with >= self.min_items) & (items_with <= self.max_share * items)


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some texts, one text after another.

    Attributes
    ----------
    distinct
        The different words, as Arrow strings.
    codes
        int64 [words]: which of them each word is.
    rows
        int64 [words]: the text of each word, ascending.
    texts
        Number of texts.
    """

    distinct: pa.Array
    codes: Ints
    rows: Ints
    texts: int

    def where(self, kept: Mask, limit: int) -> pa.ListArray:
        """The words of a mask [distinct] as lists, one a text; the first `limit` of each."""
        places = np.flatnonzero(kept[self.codes])
        rows = self.rows[places]
        counts = np.bincount(rows, minlength=self.texts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        places = places[np.arange(len(places)) - first < limit]
        ends = np.cumsum(np.minimum(counts, limit))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self.distinct.take(pa.array(self.codes[places])))

    def texts_with(self, texts: Mask) -> Ints:
        """Number of the texts of a mask [texts] that each distinct word is in."""
        return np.bincount(self.codes[texts[self.rows]], minlength=len(self.distinct))


def idf(items_with: Ints, items: int) -> npt.NDArray[np.float32]:
    """Inverse document frequency, 1 + log((1 + items) / (1 + items with the word))."""
    return (1 + np.log((1 + items) / (1 + items_with))).astype(np.float32)


def words(texts: pa.Array | pa.ChunkedArray, column: str, settings: Text) -> Words:
    """The distinct words of each text, in the order in which they first appear, bigrams last.

    Parameters
    ----------
    texts
        [texts] strings; a null has no words.
    column
        Their column, for messages.

    Raises
    ------
    SchemaError
        The column does not hold text.

    Notes
    -----
    Time is linear in the length of the texts, about a million titles in four seconds; nothing is a
    Python loop.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if pa.types.is_null(texts.type):
        texts = texts.cast(pa.string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise SchemaError(
            f"tokens({column}) reads a text, but column {column!r} is of type {texts.type}; "
            f"declare `{column}` itself, or cast it to string"
        )
    # NFKC writes a character that can be coded in several ways in one, before it is compared.
    lower = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(texts, ""), form="NFKC"))
    split = pc.split_pattern_regex(lower, pattern=_BETWEEN)
    lengths = pc.list_value_length(split).to_numpy(zero_copy_only=False)
    found = split.flatten()
    present = pc.greater(pc.binary_length(found), 0)
    rows = np.repeat(np.arange(len(texts)), lengths)[present.to_numpy(zero_copy_only=False)]
    found = found.filter(present)
    if settings.bigrams and len(found) > 1:
        pairs = np.flatnonzero(rows[1:] == rows[:-1])
        both = pc.binary_join_element_wise(
            found.take(pa.array(pairs)), found.take(pa.array(pairs + 1)), " "
        )
        found = pa.concat_arrays([found, both])
        rows = np.concatenate([rows, rows[pairs]])
        order = np.argsort(rows, kind="stable")
        found, rows = found.take(pa.array(order)), rows[order]
    encoded = found.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    _, first = np.unique(rows * (len(encoded.dictionary) + 1) + codes, return_index=True)
    first.sort()
    return Words(encoded.dictionary, codes[first], rows[first], len(texts))
