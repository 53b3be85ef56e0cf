"""The Gaussian posterior over the weights of a head, in several structures."""
