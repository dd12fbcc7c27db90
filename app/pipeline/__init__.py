"""Camera to avatar to sinks, live, without a window: nothing in here knows Qt."""
