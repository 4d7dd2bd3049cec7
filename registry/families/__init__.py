"""The plugin host: finds installed families and imports one on demand."""
