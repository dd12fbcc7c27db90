"""MCNet: the network, its engine, and the `mcnet` command."""
