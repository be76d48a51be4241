"""The tiny model's tokenizer: CLIP's own kind, byte-level, with a few merges, so it takes any text."""

from __future__ import annotations

from tokenizers.pre_tokenizers import ByteLevel

END_OF_WORD = "</w>"
START_TOKEN = "<|startoftext|>"  # noqa: S105  a text token, not a secret
END_TOKEN = "<|endoftext|>"  # noqa: S105  a text token, not a secret
MAX_TOKENS = 77
"""Tokens of a prompt, the start and end tokens included: CLIP's length."""

_MERGED_WORDS = ("the", "and", "with", "over", "sky", "sea", "moving", "slowly")


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token ids by token, and the merges in order of precedence, in the form of vocab.json and merges.txt."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(byte + END_OF_WORD for byte in alphabet)]
    merges: list[str] = []
    for word in _MERGED_WORDS:
        pieces = [*word[:-1], word[-1] + END_OF_WORD]
        while len(pieces) > 1:
            pair, joined = f"{pieces[0]} {pieces[1]}", pieces[0] + pieces[1]
            if pair not in merges:
                merges.append(pair)
                tokens.append(joined)
            pieces[:2] = [joined]
    tokens += [START_TOKEN, END_TOKEN]
    return {token: number for number, token in enumerate(tokens)}, merges


def tokenizer_config() -> dict[str, object]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START_TOKEN,
        "eos_token": END_TOKEN,
        "pad_token": END_TOKEN,
        "unk_token": END_TOKEN,
        "add_prefix_space": False,
    }
