"""The strategy `search`: what is asked of a batch that looks for something (`strategy`), and what its parts are."""
