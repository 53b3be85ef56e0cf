"""How unlike the pool an item is, without any label: `base` says what a novelty is, `registry` names them."""
