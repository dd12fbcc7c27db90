"""What makes the avatar of a frame: faces, calibration, motion, the engine, and what shows while no face is found."""
