"""Songs as their files word them."""

from acetrain.data.prompts import Prompts

AS_WRITTEN = Prompts(
    tag="",
    tag_position=None,
    genre_ratio=None,
    all_instrumental=None,
    skip_metas=False,
    variants=1,
    shuffle_tags=False,
    tag_dropout=0.0,
)
