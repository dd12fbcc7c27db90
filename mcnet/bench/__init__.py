"""What measures the engine: speed, accuracy against the plain network, operations, ranges of activations."""
