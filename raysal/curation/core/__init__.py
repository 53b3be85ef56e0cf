"""What the step `core` is made of."""
