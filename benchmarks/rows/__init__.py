"""The rows of the table, one module for each group: what each compares, its bar, and how one sample of it is taken."""
