"""The head: a linear model on frozen vectors with a posterior, fitted by trainers, updated in closed form."""
