"""From the files of one place to configuration, tokenizer and model."""
