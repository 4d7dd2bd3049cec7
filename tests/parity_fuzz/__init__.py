"""A differential fuzzer: this library against transformers 5.23 and pytorch-transformers 1.2.0 on random examples.

    python -m tests.parity_fuzz [--seeds 1000] [--seed 1] [--kinds models,tokenizers]

Each seed is one example of each kind, with several comparisons. What differs on purpose is in `decided.py`.
"""
