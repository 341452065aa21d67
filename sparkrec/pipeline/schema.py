"""The `schema:` block of a conf."""

from dataclasses import dataclass, field

from sparkrec.bounds import Count, Length, check_bounds
from sparkrec.io import storage
from sparkrec.schema.parser import FeatureSchema, feature_schema
from sparkrec.schema.text import Text


@dataclass(frozen=True)
class Schema:
    """Which columns are features.

    Attributes
    ----------
    path
        Folder with the files `user_column_schema`, `user_combine_schema`, `item_column_schema` and
        `item_combine_schema`. By default the features are those of the model's `reads`: DSSM's are
        the user, the last item and the recent items on the user side, and the item on the item
        side.
    user_buckets
        Number of embedding rows of a feature of the user side, `{feature: rows}`. Its values are
        assigned to the rows by hash modulo; without it every value has its own row.
    item_buckets
        The same for features of the item side.
    max_list_length
        Maximum number of values of a list feature, of which the last are used, and of words of a
        text, of which the first are.
    text
        How the features `tokens(column)` of the item side turn a text into words.
    """

    path: str | None = None
    user_buckets: dict[str, Count] = field(default_factory=dict)
    item_buckets: dict[str, Count] = field(default_factory=dict)
    max_list_length: Length = 64
    text: Text = field(default_factory=Text)

    def __post_init__(self) -> None:
        check_bounds(self)

    def read(self, side: str) -> FeatureSchema | None:
        """Read the declarations of a side, `user` or `item`; None if `path` is not set."""
        if self.path is None:
            return None
        paths = [storage.join(self.path, f"{side}_{kind}_schema") for kind in ("column", "combine")]
        texts = [storage.read_bytes(path).decode("utf-8", errors="replace") for path in paths]
        return feature_schema(texts[0], paths[0], texts[1], paths[1])
