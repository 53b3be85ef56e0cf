"""Labels that came along and look wrong: confident learning, held-out probabilities, and copies with other labels."""
