"""What the library costs beside its peers and beside the least that any program could do; see docs/benchmarks.md."""
