"""The safetensors format, read by mapping and written in an aligned order."""
