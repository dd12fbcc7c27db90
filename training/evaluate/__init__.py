"""`mcnet-train evaluate`: what a model does to faces that it has not learned from."""
