"""The network: plain layers that a finished subnet is made of, and their entangled counterparts for NNI."""
