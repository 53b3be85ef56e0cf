"""What strategies share: the lazy engine that picks from the whole pool exactly, and kernels on candidates."""
