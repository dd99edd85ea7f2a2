"""Training the supernet: the recipe, the Lightning modules and NNI's one-shot strategy around them."""
