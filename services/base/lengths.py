"""How long a model's sequences may be."""


def longest_sequence(model: str, wanted: int | None, most: int, name: str) -> int:
    """Tokens of prompt and response together.

    Args:
        model: folder or hub id.
        wanted: the setting ``max_model_len``; None: what the model reads.
        most: that a pass of the engine takes; a default is never above it.
        name: of the model in the setting, for the error.

    Raises:
        ValueError: more is wanted than the model reads.
    """
    from transformers import AutoConfig

    reads = getattr(AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None)
    if wanted is None:
        return most if reads is None else min(int(reads), most)
    if reads is not None and wanted > int(reads):
        raise ValueError(f"max_model_len: {wanted} is over the {reads} tokens that {name} reads")
    return wanted
