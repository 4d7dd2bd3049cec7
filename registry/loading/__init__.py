"""Build configuration, tokenizer and model from the files of one place."""
