"""What differs from an oracle on purpose, by name and with the reason. The kinds leave it out by these names."""

from __future__ import annotations

__all__ = ["DECIDED", "decided"]

DECIDED = {
    "padding outside the vocabulary": "resizing below pad_token_id is an error here; neither oracle opens what it then saves",
    "loss of nothing": "a loss over no labels is 0 here and nan in both oracles",
    "masked queries": "what a masked position of a causal model predicts means nothing, and each library makes its own of it",
    "token classification": "1.2.0 leaves masked positions out of the loss, transformers 5 counts them; 1.2.0 wins",
    "summary of choices": "summary_type other than 'cls_index' reads positions here, and choices in both oracles",
    "labels of choices": "transformers' multiple choice heads have one label whatever num_labels says; 1.2.0 follows it",
    "penalised padding": "transformers counts padding as a token of the prompt; here it has no influence",
    "swapped lengths": "1.2.0 swaps two lengths, so that with ext_len above a segment's or the memory's length it remembers "
    "words that the next segment reads again",
    "no look-ahead": "same_length with mem_len=0 looks ahead in 1.2.0, and never here",
    "a known word as mere text": "add_tokens leaves a word that the vocabulary has as it is, as 1.2.0 did, unless it is "
    "special or an AddedToken; transformers matches it whole. The count is of words that got an id, and transformers' of all",
    "a special token made plain": "transformers goes on to skip a special token that is added again as a plain one",
    "rare CJK": "U+2B820 to U+2B91F are words of their own in 1.2.0, and letters in the tokenizers library",
    "ids in gaps": "an added token never gets an id that a vocabulary with gaps has already; in transformers it does",
    "names for gaps": "an id without a token has a name of its own here, so that ids and their number agree",
    "multiple above the limit": "pad_to_multiple_of does not go beyond max_length here",
    "no room": "a max_length that has no room for the special tokens is an error here; transformers exceeds it",
    "one side is too short": "where the text that may be cut is too short, this is an error here; transformers cuts the other",
    "clean-up": "transformers' BERT closes gaps before punctuation even with clean_up_tokenization_spaces=False",
    "bytes without a token": "1.2.0 makes unknown tokens of bytes that a GPT-2 vocabulary lacks, transformers and we nothing",
    "an empty second text": "transformers takes an empty second text for none",
    "letters of added tokens": "transformers takes letters of an added token for the bytes that they stand for elsewhere",
    "a text of blanks": "1.2.0 makes a special token of a text of blanks; a text of blanks has no token here",
    "ends of pieces": "1.2.0 puts <eos> after each piece of a line between special tokens, and not only after the line",
    "an empty batch": "1.2.0 yields a batch without words where a part has fewer than two words",
}


def decided(name: str, condition: bool) -> bool:
    """Whether a decided difference applies to an example."""
    assert name in DECIDED, f"{name!r} is expected to be listed in decided.py, but is not"
    return condition
